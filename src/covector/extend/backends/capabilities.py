"""What a backend can do, and what becomes of the rest: decomposed, or refused with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from covector.core import dtypes, pytree
from covector.core.avals import Aval
from covector.core.errors import MissingCapabilityError, compose
from covector.core.program import Equation, Program, map_subprograms, subprograms
from covector.core.trace import trace_program
from covector.ops.registry import load_all

Decomposition = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Capabilities:
    """What a backend declares that it can do.

    `covector.testing.conformance` lists what is missing here as missing, not as failed.

    Attributes:
        primitives: those that it claims, by name; `None` claims all.
        decompositions: others in terms of those, `(*operands, **params) -> outputs`, besides
            `DECOMPOSITIONS` and those that users' operations have.
        dtypes: short names of the element types that it stores, "bool", "f16", "c64" and so on;
            `None` for all.
        calls: C functions that it has for loop IR to call (`Call`), by name; `None` for all.
        callbacks: whether it can call Python functions.
        run_time_sizes: whether it takes programs with symbolic sizes.
    """

    primitives: frozenset[str] | None = None
    decompositions: Mapping[str, Decomposition] = field(default_factory=dict[str, Decomposition])
    dtypes: frozenset[str] | None = None
    calls: frozenset[str] | None = None
    callbacks: bool = True
    run_time_sizes: bool = True


EVERYTHING = Capabilities()
"""Of a backend that does all that programs may ask for."""

_CALLS = frozenset({"call"})


def claimed(program: Program, backend: str, capabilities: Capabilities) -> Program:
    """A program of primitives and dtypes that a backend claims.

    Calls of programs (`jit`) are kept: `simplified` inlines them. A primitive that holds programs,
    such as `scan`, is claimed by its name like others, and its programs are gone through.

    Args:
        program: any valid program.
        backend: its name, for messages.
        capabilities: of the backend.

    Returns:
        The same program if all is claimed, else one in which what is not claimed is decomposed.

    Raises:
        MissingCapabilityError: for a primitive that is not claimed and has no decomposition, a
            dtype that the backend does not store, or symbolic sizes where it takes none; names the
            equation and the user's line.

    Example:
        >>> import covector as cv
        >>> program = cv.make_program(cv.lax.square)(cv.ShapeDtypeStruct((3,), "float32"))
        >>> only_products = Capabilities(primitives=frozenset({"mul"}))
        >>> from covector.extend.backends import simplified
        >>> print(simplified(claimed(program, "mine", only_products)))
        program square(a: f32[3]) {
          b: f32[3] = mul a a
        } -> b
    """
    if capabilities.primitives is not None:
        program = _Claims(backend, capabilities).rewritten(program)
    if capabilities.dtypes is not None or not capabilities.run_time_sizes:
        _check_avals(program, backend, capabilities)
    return program


class _Claims:
    def __init__(self, backend: str, capabilities: Capabilities) -> None:
        self._backend = backend
        self._primitives = (capabilities.primitives or frozenset()) | _CALLS
        self._decompositions = {**DECOMPOSITIONS, **capabilities.decompositions}
        self._open: list[str] = []

    def rewritten(self, program: Program) -> Program:
        equations = [self._equation(e) for e in program.equations]
        if all([new is old for new, old in zip(equations, program.equations, strict=True)]):
            return program
        return program.replace(equations=equations)

    def _equation(self, equation: Equation) -> Equation:
        primitive = equation.primitive
        if primitive.name not in self._primitives and "call" not in primitive.tags:
            return self._decomposed(equation)
        params = equation.params
        if not any(True for _ in subprograms(params)):
            return equation
        found = map_subprograms(params, self.rewritten)
        old, new = list(subprograms(params)), list(subprograms(found))
        if all([a is b for a, b in zip(old, new, strict=True)]):
            return equation
        return equation.replace(params=found)

    def _decomposed(self, equation: Equation) -> Equation:
        """A call of the program that an equation is decomposed into."""
        name = equation.primitive.name
        if name in self._open:
            self._refuse(equation)
        self._open.append(name)
        body = self.rewritten(self._program(equation))
        self._open.pop()
        load_all()
        from covector.ops.call import call

        params = {"program": body, "name": name, "inline": True}
        return equation.replace(primitive=call, params=params)

    def _program(self, equation: Equation) -> Program:
        """What an equation is decomposed into: the backend says it, or who made the operation."""
        primitive, avals = equation.primitive, [a.aval for a in equation.inputs]
        rule = self._decompositions.get(primitive.name)
        if rule is None:
            own = primitive.decompose and primitive.decompose(*avals, **equation.params)
            return own or self._refuse(equation)

        def decomposition(*operands: Any) -> list[Any]:
            return pytree.leaves(rule(*operands, **equation.params))

        traced, _ = trace_program(decomposition, avals, primitive.name)
        check_decomposition(equation, traced)
        return traced

    def _refuse(self, equation: Equation) -> NoReturn:
        name = equation.primitive.name
        found = f"{name} of {_types(a.aval for a in equation.inputs)}"
        _refuse(self._backend, f"primitive {name}", found, equation)


def check_decomposition(equation: Equation, traced: Program) -> None:
    """Raises a `TypeError` if what an equation is decomposed into has other results."""
    wanted = [(v.aval.shape, v.aval.dtype) for v in equation.outputs]
    found = [(a.shape, a.dtype) for a in traced.output_avals]
    if wanted != found:
        raise TypeError(
            compose(
                f"the decomposition of {equation.primitive.name} gives other results",
                found=f"{_types(traced.output_avals)} instead of "
                f"{_types(v.aval for v in equation.outputs)}",
                line=equation.place or None,
            )
        )


def _check_avals(program: Program, backend: str, capabilities: Capabilities) -> None:
    for aval in program.input_avals:
        _check_aval(aval, backend, capabilities, None)
    for equation in program.equations:
        for atom in (*equation.inputs, *equation.outputs):
            _check_aval(atom.aval, backend, capabilities, equation)
        for nested in subprograms(equation.params):
            _check_avals(nested, backend, capabilities)


def _check_aval(
    aval: Aval, backend: str, capabilities: Capabilities, equation: Equation | None
) -> None:
    stored = capabilities.dtypes
    if stored is not None and not dtypes.is_key(aval.dtype):
        name = dtypes.short_name(aval.dtype)
        if name not in stored:
            _refuse(backend, f"dtype {name}", str(aval), equation)
    if not capabilities.run_time_sizes and any(type(n) is not int for n in aval.shape):
        _refuse(backend, "sizes at run time", str(aval), equation)


def _types(avals: Iterable[Aval]) -> str:
    return f"({', '.join([str(a) for a in avals])})"


def _refuse(backend: str, capability: str, found: str, equation: Equation | None) -> NoReturn:
    raise missing(backend, capability, found, equation)


def missing(
    backend: str, capability: str, found: str, origin: object = None
) -> MissingCapabilityError:
    """The error that says what a backend declares that it lacks.

    Args:
        backend: its name.
        capability: what it lacks, in two or three words.
        found: what asks for it.
        origin: the equation, where it is known.
    """
    line = (origin.place or None) if isinstance(origin, Equation) else None
    text = compose(
        f"the backend {backend!r} lacks: {capability}",
        found=found,
        line=line,
        fix="run this part with another backend, as jit(f, backend='native')",
    )
    return MissingCapabilityError(text, capability)


# --- decompositions of built-in primitives --------------------------------------------------------


def _square(x: Any) -> Any:
    return x * x


def _integer_pow(x: Any, *, y: int) -> Any:
    power, base, left = None, x, abs(y)
    while left:
        if left & 1:
            power = base if power is None else power * base
        left >>= 1
        base = base * base if left else base
    one = x * 0 + 1 if power is None else power
    return 1 / one if y < 0 else one


def _tan(x: Any, **params: Any) -> Any:
    from covector import lax

    return lax.sin(x) / lax.cos(x)


def _rsqrt(x: Any, **params: Any) -> Any:
    from covector import lax

    return 1 / lax.sqrt(x)


def _logistic(x: Any, **params: Any) -> Any:
    from covector import lax

    return 1 / (1 + lax.exp(-x))


def _clamp(low: Any, x: Any, high: Any) -> Any:
    from covector import lax

    return lax.min(lax.max(x, low), high)


def _is_finite(x: Any) -> Any:
    from covector import lax

    return lax.eq(x - x, x * 0)


def _gt(x: Any, y: Any) -> Any:
    return y < x


def _ge(x: Any, y: Any) -> Any:
    return y <= x


def _ne(x: Any, y: Any) -> Any:
    return ~(x == y)


DECOMPOSITIONS: dict[str, Decomposition] = {
    "square": _square,
    "integer_pow": _integer_pow,
    "tan": _tan,
    "rsqrt": _rsqrt,
    "logistic": _logistic,
    "clamp": _clamp,
    "is_finite": _is_finite,
    "gt": _gt,
    "ge": _ge,
    "ne": _ne,
}
"""Primitives in terms of others, for backends that do not claim them."""
