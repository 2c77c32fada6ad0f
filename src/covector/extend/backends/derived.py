"""Backends that differ from others in how a few primitives are compiled."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from covector.compiler.passes.inline import Inline
from covector.compiler.pipeline import run_passes
from covector.core import pytree
from covector.core.backend import Backend, Executable, Options, get_backend
from covector.core.errors import CompilationError, compose
from covector.core.libraries import LibraryFunction, LibraryOptions, LibraryWriter
from covector.core.primitive import REGISTRY, Primitive, Rule, unsupported
from covector.core.program import Equation, Program, map_subprograms, subprograms
from covector.core.source import here
from covector.core.trace import trace_program
from covector.extend.backends.capabilities import Decomposition, check_decomposition
from covector.loopir.ir import CallInLanes
from covector.loopir.tensor import Tensor
from covector.ops.call import call
from covector.ops.factory import elements
from covector.ops.registry import load_all

LOOP_IR = "loop IR"


def scalar_rule(function: Callable[..., Any], cost: float = 10.0) -> Rule:
    """The lowering of an elementwise primitive by what it does to one element.

    Args:
        function: `(builder, *scalars, **params) -> scalar`, with a loop IR builder
            (`covector.extend.loopir.Builder`) and one of its values for each operand.
        cost: about how many instructions that is; costly values are computed once.

    Returns:
        A rule for `derived`.
    """

    def rule(b: Any, *tensors: Any, **params: Any) -> Any:
        shape: Any = max((t.shape for t in tensors), key=len)
        dtype = b.element_dtype(b.equation.outputs[0].aval)

        equation = b.equation

        def element(index: Any) -> Any:
            with _told(equation):  # it may be asked for long after the rule has returned
                return function(b.builder, *elements(tensors, index), **params)

        return b.lazy(shape, dtype, element, cost + sum([t.cost for t in tensors]))

    return rule


def derived(
    name: str,
    *,
    base: str = "native",
    rules: Mapping[str, Rule] | None = None,
    decompositions: Mapping[str, Decomposition] | None = None,
) -> Derived:
    """A backend that is another one, but for some primitives.

    Args:
        name: of the backend, under which it is registered (`register_backend`).
        base: the backend that does everything else. For `rules` it has to be one that compiles loop
            IR, and says so: its attribute `level` is "loop IR".
        rules: lowerings by the name of the primitive, `(b, *tensors, **params) -> tensor`, or a
            list of them for one with several results. They replace that of the primitive, or add
            one where it has none; a rule may return `NotImplemented` for what it does not take.
            Rules of elementwise primitives give lazy tensors (`scalar_rule`).
        decompositions: by the name of the primitive, `(*operands, **params) -> outputs`: what the
            base compiles in its place. The primitive itself may be used in it.

    Returns:
        The backend.

    Raises:
        ValueError: for primitives that there are not, that are in both, or that hold programs
            (loops, branches, calls).

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector.extend.backends import register_backend
        >>> def rough(builder, x, **params):  # e^x = lim (1 + x/n)^n
        ...     y = builder.op("add", builder.op("mul", x, 2.0**-8), 1.0)
        ...     for _ in range(8):
        ...         y = builder.op("mul", y, y)
        ...     return y
        >>> def backend():
        ...     return derived("rough", rules={"exp": scalar_rule(rough)})
        >>> register_backend("rough", backend)
        >>> cv.jit(cnp.exp, backend="rough")(cnp.array([0.0, 0.5]))
        Array([1.       , 1.6479138], dtype=float32)
    """
    rules, decompositions = dict(rules or {}), dict(decompositions or {})
    load_all()
    for each in (*rules, *decompositions):
        _check(name, each)
    if both := sorted(rules.keys() & decompositions.keys()):
        raise ValueError(f"backend {name!r}: a rule and a decomposition of {', '.join(both)}")
    return Derived(name, base, rules, decompositions)


def _check(backend: str, name: str) -> None:
    primitive = REGISTRY.get(name)
    if primitive is None:
        raise ValueError(
            compose(
                f"backend {backend!r}: there is no primitive {name!r}",
                fix="programs show what primitives are called: jit(f).trace(*args).as_text()",
                line=here(),
            )
        )
    if primitive.tags & {"control", "call"}:
        raise ValueError(
            compose(
                f"backend {backend!r}: {name!r} cannot have another lowering",
                found="it holds programs, or calls Python",
                fix="give rules for the operations inside",
                line=here(),
            )
        )


class Derived:
    """A backend that `derived` made.

    Attributes:
        name: of the backend.
        base: of the one it is made of.
    """

    def __init__(
        self,
        name: str,
        base: str,
        rules: Mapping[str, Rule],
        decompositions: Mapping[str, Decomposition],
    ) -> None:
        self.name = name
        self.base = base
        self._own = {each: _with_lowering(name, each, rule) for each, rule in rules.items()}
        self._decompositions = decompositions

    @property
    def level(self) -> str:
        """What the base compiles."""
        return getattr(get_backend(self.base), "level", "")

    @property
    def devices(self) -> Sequence[Any]:
        """Those of the base."""
        return getattr(get_backend(self.base), "devices", ())

    def compile(self, program: Program, options: Options) -> Executable:
        """Compiles a program with the base.

        Raises:
            CompilationError: if the base does not compile loop IR, and there are rules for it; or
                a rule fails.
        """
        return self._checked().compile(self._with_own(program), options)

    @property
    def library_kinds(self) -> Sequence[str]:
        """What the base can write for use without Python."""
        return getattr(get_backend(self.base), "library_kinds", ())

    def library(
        self, functions: Sequence[LibraryFunction], options: LibraryOptions
    ) -> Mapping[str, bytes]:
        """A library that the base writes, with these rules.

        Args:
            functions: what is in it.
            options: of the library.
        """
        changed = [replace(f, program=self._with_own(f.program)) for f in functions]
        return cast("LibraryWriter", self._checked()).library(changed, options)

    def _checked(self) -> Backend:
        """The base, if it can do what is asked of it."""
        backend: Backend = get_backend(self.base)
        if self._own and getattr(backend, "level", "") != LOOP_IR:
            raise CompilationError(
                compose(
                    f"the backend {self.name!r} has lowering rules, and {self.base!r}, which it is "
                    "made of, compiles no loop IR",
                    found=f"rules of {', '.join(sorted(self._own))}",
                    fix="give decompositions, or derive it from one that does, as 'native'",
                )
            )
        return backend

    def _with_own(self, program: Program) -> Program:
        """A program with these rules."""
        return self._rewritten(run_passes(program, (Inline(kept=self._has_own),)))

    def _has_own(self, equation: Equation) -> bool:
        name = equation.primitive.name
        return name in self._own or name in self._decompositions

    def _rewritten(self, program: Program) -> Program:
        return program.replace(equations=[self._equation(e) for e in program.equations])

    def _equation(self, equation: Equation) -> Equation:
        name = equation.primitive.name
        if name in self._own:
            return equation.replace(primitive=self._own[name])
        if name in self._decompositions:
            return self._decomposed(equation, self._decompositions[name])
        if not any(True for _ in subprograms(equation.params)):
            return equation
        return equation.replace(params=map_subprograms(equation.params, self._rewritten))

    def _decomposed(self, equation: Equation, function: Decomposition) -> Equation:
        def flat(*operands: Any) -> list[Any]:
            return pytree.leaves(function(*operands, **equation.params))

        name = equation.primitive.name
        body, _ = trace_program(flat, [a.aval for a in equation.inputs], name)
        check_decomposition(equation, body)
        params = {"program": body, "name": name, "inline": True}
        return equation.replace(primitive=call, params=params)


@contextlib.contextmanager
def _told(equation: Equation) -> Generator[None]:
    """Says of errors in a rule what it was asked to lower, and the user's line."""
    try:
        yield
    except CallInLanes:  # no error: the loop will be built without lanes
        raise
    except Exception as error:
        error.add_note(f"  in: the rule of {equation.primitive.name}\n  at: {equation.place}")
        raise


def _with_lowering(backend: str, name: str, rule: Rule) -> Primitive:
    """A primitive that is another one with a lowering of its own."""
    old = REGISTRY[name]

    def lower(b: Any, *tensors: Any, **params: Any) -> Any:
        with _told(b.equation):
            found: Any = rule(b, *tensors, **params)
        if found is not NotImplemented:
            return [found] if old.multiple_results and isinstance(found, Tensor) else found
        if old.decompose is not None:
            avals = [a.aval for a in b.equation.inputs]
            own = old.decompose(*avals, **params)
            if own is not None:
                results = b.inline(own, tensors)
                return results if old.multiple_results else results[0]
        return old.lower(b, *tensors, **params)

    own = f"{backend}.{name}"
    # Compiled code is known by the names of primitives, and another backend may have had this one.
    numbered = (f"{own}.{k}" for k in itertools.count(2))
    own = next(each for each in itertools.chain((own,), numbered) if each not in REGISTRY)
    # `narrow` applies the primitive that it belongs to: in lanes this one would be lost.
    lanes = old.lanes if old.narrow is None else unsupported("its lowering is a backend's own")
    made = Primitive(
        own,
        shape=old.shape,
        evaluate=old.evaluate,
        jvp=old.jvp,
        transpose=old.transpose,
        batch=old.batch,
        lower=lower,
        lanes=lanes,
        effects=old.effects,
        trim=old.trim,
        multiple_results=old.multiple_results,
        tags=old.tags,
    )
    made.built_in = False  # what it compiles to changes while the package stays as it is
    return made
