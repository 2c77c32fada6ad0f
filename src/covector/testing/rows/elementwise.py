"""Rows of the elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.ops import elementwise as ops
from covector.ops.gradient import stop_gradient
from covector.testing.optable import (
    COMPLEXES,
    FLOATS,
    INTEGERS,
    NUMBERS,
    ORDERED,
    SIGNED,
    Domain,
    Operand,
    OpRow,
    Twin,
)

WIDE = ("f32", "f64")
INEXACT = FLOATS + COMPLEXES

ANY = Operand()
NONZERO = Operand(Domain(-3, 3, avoid=(0.0,), margin=0.3))
POSITIVE = Operand(Domain(0.3, 4))
UNIT = Operand(Domain(-0.9, 0.9))
PROBABILITY = Operand(Domain(0.05, 0.95))
ABOVE_ONE = Operand(Domain(1.2, 4))
BITS = Operand(Domain(-100, 100))
AMOUNT = Operand(Domain(-2, 70))
SMALL = Operand(Domain(-4, 4))
EXPONENT = Operand(Domain(-3, 3), dtype="i32")
PREDICATE = Operand(dtype="bool")


def _scipy(name: str) -> Callable[..., Any]:
    def twin(*operands: Any) -> Any:
        import scipy.special

        return getattr(scipy.special, name)(*operands)

    return twin


def _power(x: Any, y: Any) -> Any:
    return x ** np.asarray(y, float)


def _rsqrt(x: Any) -> Any:
    return 1 / np.sqrt(x)


def _exp2(x: Any) -> Any:
    return np.exp(x * np.log(2.0))


def _logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _choose_of_two(which: Any, a: Any, b: Any) -> Any:
    return np.choose(which.astype(int), (a, b))


def _choose(which: Any, *cases: Any) -> Any:
    return np.choose(which, cases)


def _unary(name: str, operand: Operand, twin: Twin | None, **options: Any) -> OpRow:
    op = getattr(ops, name, None) or getattr(ops, f"{name}_")
    defaults: dict[str, Any] = {"jax": f"lax.{name}"}
    return OpRow(name, op, (operand,), numpy=twin, **(defaults | options))


def _binary(name: str, operands: tuple[Operand, Operand], twin: Twin, **options: Any) -> OpRow:
    defaults: dict[str, Any] = {"jax": f"lax.{name}"}
    op = getattr(ops, name, None) or getattr(ops, f"{name}_")
    return OpRow(name, op, operands, numpy=twin, **(defaults | options))


_ARITHMETIC = (
    _unary("neg", ANY, np.negative, dtypes=NUMBERS),
    _unary("sign", NONZERO, np.sign, dtypes=NUMBERS, order=0),
    _unary("abs", NONZERO, np.abs, dtypes=SIGNED + INEXACT),
    _unary("floor", ANY, np.floor, dtypes=FLOATS, order=0),
    _unary("ceil", ANY, np.ceil, dtypes=FLOATS, order=0),
    _unary("is_finite", ANY, np.isfinite, dtypes=FLOATS, order=0),
    _unary("square", ANY, np.square, dtypes=NUMBERS),
    _binary("add", (ANY, ANY), np.add, dtypes=NUMBERS),
    _binary("add_any", (ANY, ANY), np.add, dtypes=NUMBERS, jax=None),
    _binary("sub", (ANY, ANY), np.subtract, dtypes=NUMBERS),
    _binary("mul", (ANY, ANY), np.multiply, dtypes=NUMBERS),
    OpRow("fma", ops.fma, (ANY, ANY, ANY), FLOATS),
    _binary("div", (ANY, NONZERO), np.divide, dtypes=FLOATS + COMPLEXES),
    _binary("rem", (Operand(Domain(-9, 9)), NONZERO), np.fmod, dtypes=FLOATS),
    _binary("nextafter", (ANY, ANY), np.nextafter, dtypes=FLOATS, order=0),
    _binary("max", (ANY, ANY), np.maximum, dtypes=("bool", *NUMBERS)),
    _binary("min", (ANY, ANY), np.minimum, dtypes=("bool", *NUMBERS)),
    OpRow("integer_div", ops.div, (BITS, SMALL), INTEGERS, jax="lax.div", order=0),
    OpRow("integer_rem", ops.rem, (BITS, SMALL), INTEGERS, jax="lax.rem", order=0),
    OpRow(
        "clamp",
        ops.clamp,
        (Operand(Domain(-2, -1)), ANY, Operand(Domain(1, 2))),
        ORDERED,
        numpy=lambda low, x, high: np.clip(x, low, high),
        jax="lax.clamp",
    ),
    *(
        OpRow(
            f"round_{method.name.lower()}",
            ops.round_,
            (ANY,),
            FLOATS,
            {"rounding_method": int(method)},
            jax="lax.round",
            order=0,
        )
        for method in ops.RoundingMethod
    ),
    *(
        OpRow(
            f"integer_pow_{y}",
            ops.integer_pow,
            (NONZERO,),
            NUMBERS if y >= 0 else INEXACT,
            {"y": y},
            numpy=partial(_power, y=y),
            jax="lax.integer_pow",
        )
        for y in (-2, -1, 0, 1, 2, 3, 6)
    ),
)

_CONVERSIONS = (
    OpRow("real", ops.real, dtypes=COMPLEXES, numpy=np.real, jax="lax.real"),
    OpRow("imag", ops.imag, dtypes=COMPLEXES, numpy=np.imag, jax="lax.imag"),
    OpRow(
        "complex",
        ops.complex_,
        (ANY, ANY),
        WIDE,
        numpy=lambda x, y: x + 1j * y,
        jax="lax.complex",
    ),
    *(
        OpRow(
            f"conj_{name}",
            ops.conj,
            (ANY,),
            (name,),
            {"input_dtype": dtypes.from_short_name(name)},
            numpy=np.conj,
            jax="lax.conj",
            jax_params={},
        )
        for name in WIDE + COMPLEXES
    ),
    OpRow("copy", ops.copy, (ANY,), ("bool", *NUMBERS), numpy=np.copy, jax="lax.copy_p.bind"),
    *(
        OpRow(
            f"convert_to_{name}",
            ops.convert_element_type,
            (SMALL,),
            ("bool", *NUMBERS),
            {"new_dtype": dtypes.from_short_name(name), "weak_type": False},
            jax="lax.convert_element_type",
            jax_params={"new_dtype": dtypes.from_short_name(name)},
            order=2 if name in INEXACT else 0,
        )
        for name in ("bool", *NUMBERS)
    ),
    *(
        OpRow(
            f"bitcast_{source}_to_{target}",
            ops.bitcast_convert_type,
            (Operand(shape=shape),),
            (source,),
            {"new_dtype": dtypes.from_short_name(target)},
            jax="lax.bitcast_convert_type",
            order=0,
        )
        for source, target, shape in (
            ("f32", "i32", (3, 4)),
            ("f16", "bf16", (3, 4)),
            ("u64", "f64", (3,)),
            ("f64", "u8", (3, 4)),
            ("i32", "f16", (5,)),
            ("u8", "f32", (3, 4)),
            ("bf16", "u64", (2, 4)),
            ("bool", "bool", (3,)),
        )
    ),
    *(
        OpRow(
            f"reduce_precision_{exponent}_{mantissa}",
            ops.reduce_precision,
            (Operand(Domain(-1000, 1000)),),
            FLOATS,
            {"exponent_bits": exponent, "mantissa_bits": mantissa},
            jax="lax.reduce_precision",
            order=1,
        )
        for exponent, mantissa in ((5, 10), (8, 7), (4, 3), (11, 2))
    ),
)

_COMPARISONS = (
    *(
        _binary(name, (SMALL, SMALL), twin, dtypes=kinds, order=0)
        for name, twin, kinds in (
            ("eq", np.equal, ("bool", *NUMBERS)),
            ("ne", np.not_equal, ("bool", *NUMBERS)),
            ("lt", np.less, ORDERED),
            ("le", np.less_equal, ORDERED),
            ("gt", np.greater, ORDERED),
            ("ge", np.greater_equal, ORDERED),
        )
    ),
    *(
        _binary(name, (SMALL, SMALL), twin, dtypes=ORDERED, order=0, jax=f"lax.{name}_p.bind")
        for name, twin in (("eq_to", np.equal), ("le_to", np.less_equal), ("lt_to", np.less))
    ),
    OpRow(
        "select_n",
        ops.select_n,
        (PREDICATE, ANY, ANY),
        ("bool", *NUMBERS),
        numpy=_choose_of_two,
        jax="lax.select_n",
        differentiable=(1, 2),
    ),
    OpRow(
        "select_of_four",
        ops.select_n,
        (Operand(Domain(0, 3), dtype="i32"), ANY, ANY, ANY, ANY),
        ("bool", *NUMBERS),
        numpy=_choose,
        jax="lax.select_n",
        differentiable=(1, 2, 3, 4),
    ),
    OpRow(
        "select_scalar_predicate",
        ops.select_n,
        (Operand(dtype="bool", shape=()), ANY, ANY),
        ("bool", *NUMBERS),
        numpy=_choose_of_two,
        jax="lax.select_n",
        differentiable=(1, 2),
    ),
)

_BITWISE = (
    OpRow(
        "not",
        ops.not_,
        (BITS,),
        ("bool", *INTEGERS),
        numpy=np.invert,
        jax="lax.bitwise_not",
        order=0,
    ),
    *(
        _binary(
            name,
            (BITS, BITS),
            twin,
            dtypes=("bool", *INTEGERS),
            order=0,
            jax=f"lax.bitwise_{name}",
        )
        for name, twin in (
            ("and", np.bitwise_and),
            ("or", np.bitwise_or),
            ("xor", np.bitwise_xor),
        )
    ),
    *(
        OpRow(name, getattr(ops, name), (BITS, AMOUNT), INTEGERS, jax=f"lax.{name}", order=0)
        for name in ("shift_left", "shift_right_logical", "shift_right_arithmetic")
    ),
    OpRow("mulhi", ops.mulhi, (BITS, BITS), INTEGERS, jax="lax.mulhi", order=0),
    OpRow(
        "population_count",
        ops.population_count,
        (BITS,),
        INTEGERS,
        jax="lax.population_count",
        order=0,
    ),
    OpRow("clz", ops.clz, (BITS,), INTEGERS, jax="lax.clz", order=0),
)

_FUNCTIONS = (
    OpRow(
        "stop_gradient",
        stop_gradient,
        (ANY,),
        NUMBERS,
        numpy=np.positive,
        jax="lax.stop_gradient",
        order=0,
    ),
    _unary("sqrt", POSITIVE, np.sqrt),
    _unary("rsqrt", POSITIVE, _rsqrt),
    _unary("cbrt", NONZERO, np.cbrt, dtypes=FLOATS),
    _unary("exp", ANY, np.exp),
    _unary("exp2", ANY, _exp2, ulps=512),
    _unary("expm1", ANY, np.expm1),
    _unary("log", POSITIVE, np.log),
    _unary("log1p", POSITIVE, np.log1p),
    _unary("log2", POSITIVE, np.log2, dtypes=FLOATS, jax=None),
    _unary("log10", POSITIVE, np.log10, dtypes=FLOATS, jax=None),
    _unary("logistic", ANY, _logistic),
    _unary("sin", ANY, np.sin),
    _unary("cos", ANY, np.cos),
    _unary("tan", Operand(Domain(-1.3, 1.3)), np.tan),
    _unary("asin", UNIT, np.arcsin),
    _unary("acos", UNIT, np.arccos),
    _unary("atan", UNIT, np.arctan),
    _unary("sinh", ANY, np.sinh, ulps=16),
    _unary("cosh", ANY, np.cosh, ulps=16),
    _unary("tanh", ANY, np.tanh),
    _unary("asinh", ANY, np.arcsinh),
    _unary("acosh", ABOVE_ONE, np.arccosh),
    _unary("atanh", UNIT, np.arctanh, ulps=128),
    _unary("erf", ANY, _scipy("erf"), dtypes=FLOATS),
    _unary("erfc", ANY, _scipy("erfc"), dtypes=FLOATS, ulps=32),
    _unary("erf_inv", UNIT, _scipy("erfinv"), dtypes=FLOATS, ulps=128),
    _unary("lgamma", POSITIVE, _scipy("gammaln"), dtypes=FLOATS, ulps=32, roots=True),
    _unary("digamma", POSITIVE, _scipy("digamma"), dtypes=FLOATS, ulps=5000, roots=True),
    _binary("pow", (POSITIVE, ANY), np.power),
    OpRow(
        "pow_of_integer",
        ops.pow_,
        (NONZERO, EXPONENT),
        numpy=_power,
        jax="lax.pow",
        differentiable=(0,),
    ),
    _binary("atan2", (NONZERO, NONZERO), np.arctan2, dtypes=FLOATS),
    OpRow(
        "complex_atan2",
        ops.atan2,
        (UNIT, ABOVE_ONE),
        COMPLEXES,
        jax="lax.atan2",
        ulps=64,
        roots=True,
    ),
)

_SHAPE = Operand(Domain(0.3, 6))


def _special(name: str, twin: str | None, *operands: Operand, **options: Any) -> OpRow:
    defaults: dict[str, Any] = {"jax": f"lax.{name}", "edges": False, "ulps": 2000.0}
    numpy = None if twin is None else _scipy(twin)
    return OpRow(name, getattr(ops, name), operands, FLOATS, numpy=numpy, **(defaults | options))


_SPECIAL = (
    _special("zeta", "zeta", ABOVE_ONE, POSITIVE, differentiable=(1,)),
    _special("polygamma", None, Operand(Domain(0, 3, whole=True)), POSITIVE, differentiable=(1,)),
    _special("igamma", "gammainc", _SHAPE, _SHAPE, order=1),
    _special("igammac", "gammaincc", _SHAPE, _SHAPE, order=1),
    _special("igamma_grad_a", None, _SHAPE, _SHAPE, order=0),
    _special("random_gamma_grad", None, _SHAPE, _SHAPE, order=0, ulps=1e6),
    _special(
        "regularized_incomplete_beta",
        "betainc",
        _SHAPE,
        _SHAPE,
        PROBABILITY,
        jax="lax.betainc",
        differentiable=(2,),
    ),
    _special("bessel_i0e", "i0e", Operand(Domain(-20, 20))),
    _special("bessel_i1e", "i1e", Operand(Domain(-20, 20, avoid=(0.0,)))),
)

ROWS = _ARITHMETIC + _CONVERSIONS + _COMPARISONS + _BITWISE + _FUNCTIONS + _SPECIAL
"""The rows of this family."""
