"""Which operations the accelerator runs, on which types."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from covector.extend.backends import Equation, Program
from covector_accelerator.kernels import Kernel, Made, Step
from covector_accelerator.vector import COMPARISONS, DTYPES, LOGICAL, NAMES

REINDEXING = frozenset({"broadcast_in_dim", "transpose", "reshape", "squeeze", "slice"})
"""Operations that only say where elements are."""

_FLOATS = ("f32", "bf16")
_ARITHMETIC = ("add", "sub", "mul", "div", "neg", "abs", "max", "min")
_FUNCTIONS = ("sqrt", "rsqrt", "exp", "log", "tanh", "logistic")

VECTOR: Mapping[str, str] = {
    **{name: name for name in (*_ARITHMETIC, *_FUNCTIONS, *COMPARISONS, *LOGICAL)},
    "select_n": "select",
    "convert_element_type": "convert",
}
"""Primitives that are one operation of the vector unit."""

_CONVERSIONS = {("f32", "bf16"), ("bf16", "f32"), ("i8", "f32"), ("i32", "f32"), ("bool", "f32")}
_PRODUCTS = {("f32", "f32"), ("bf16", "bf16"), ("bf16", "f32"), ("i8", "i32")}
"""Types of the operands and the result of a product."""

Expansion = Callable[[Kernel, list[Any], str, Mapping[str, Any]], Any]


def _square(kernel: Kernel, xs: list[Any], dtype: str, params: Mapping[str, Any]) -> Made:
    return kernel.add(Step("mul", (xs[0], xs[0]), dtype))


def _clamp(kernel: Kernel, xs: list[Any], dtype: str, params: Mapping[str, Any]) -> Made:
    low, x, high = xs
    raised = kernel.add(Step("max", (x, low), dtype))
    return kernel.add(Step("min", (raised, high), dtype))


def _integer_pow(kernel: Kernel, xs: list[Any], dtype: str, params: Mapping[str, Any]) -> Any:
    power, base, left = None, xs[0], abs(params["y"])
    while left:
        if left & 1:
            power = base if power is None else kernel.add(Step("mul", (power, base), dtype))
        left >>= 1
        base = kernel.add(Step("mul", (base, base), dtype)) if left else base
    if params["y"] < 0:
        power = kernel.add(Step("div", (1.0, power), dtype))
    return power


EXPANDED: Mapping[str, Expansion] = {
    "square": _square,
    "clamp": _clamp,
    "integer_pow": _integer_pow,
}
"""Primitives that are several operations of the vector unit."""

LARGEST_POWER = 16


def claims(equation: Equation) -> bool:
    """Whether the accelerator runs an equation."""
    atoms = [*equation.inputs, *equation.outputs]
    if len(equation.outputs) != 1 or any([a.aval.dtype not in NAMES for a in atoms]):
        return False
    if any([0 in a.aval.shape for a in atoms]):
        return False
    types = [NAMES[a.aval.dtype] for a in equation.inputs]
    result = NAMES[equation.outputs[0].aval.dtype]
    name = equation.primitive.name
    if name in REINDEXING:
        return equation.params.get("dimensions") is None or name == "squeeze"
    if name == "dot_general":
        return types[0] == types[1] and (types[0], result) in _PRODUCTS
    if name == "convert_element_type":
        return (types[0], result) in _CONVERSIONS
    if name == "select_n":
        return types[0] == "bool" and len(types) == 3 and types[1] in _FLOATS
    if name in LOGICAL:
        return set(types) == {"bool"}
    return _on_floats(name, types, equation.params)


def _on_floats(name: str, types: list[str], params: Mapping[str, Any]) -> bool:
    if len(set(types)) != 1 or types[0] not in _FLOATS:
        return False
    if name in EXPANDED:  # several roundings are not one in a narrow type
        small = name != "integer_pow" or 0 < abs(params["y"]) <= LARGEST_POWER
        return small and types[0] == "f32"
    return name in _ARITHMETIC or name in _FUNCTIONS or name in COMPARISONS


def work(program: Program) -> int:
    """How many products and operations on elements a part has."""
    total = 0
    for equation in program.equations:
        if equation.primitive.name not in REINDEXING:
            out = math.prod(equation.outputs[0].aval.shape)
            total += out * _terms(equation)
    return total


def _terms(equation: Equation) -> int:
    if equation.primitive.name != "dot_general":
        return 1
    (contracted, _), _ = equation.params["dimension_numbers"]
    return math.prod([equation.inputs[0].aval.shape[k] for k in contracted])


__all__ = ["DTYPES", "EXPANDED", "REINDEXING", "VECTOR", "claims", "work"]
