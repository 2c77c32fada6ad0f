"""Rewrite rules: a pattern and its replacement, both traced from Python functions."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from covector.compiler.passes.matching import Pattern, shape_of
from covector.core import dtypes
from covector.core.avals import Aval, same_type
from covector.core.config import config
from covector.core.errors import InconclusiveDimension, PassError, compose
from covector.core.program import Atom, Literal, Program, Variable, param_key
from covector.core.trace import trace_program

Function = Callable[..., Any]
Simplify = Callable[[Program], Program]

REMEMBERED = 256
"""How many programs of a rule, one for each kind of operands, are kept."""


class Operand(NamedTuple):
    """What a condition is told of an operand of a pattern.

    Attributes:
        shape: its sizes.
        dtype: of its elements.
        value: the number that it is; `None` for what is not known before the program runs.
    """

    shape: tuple[Any, ...]
    dtype: Any
    value: Any

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Rule:
    """A pattern and what is put in its place.

    Attributes:
        name: for messages and reports.
        pattern: `(*operands, **params) -> result`; keyword arguments have defaults, with which it
            can be traced.
        replacement: likewise, for the operands and parameters that were found.
        when: `(*operands, **params) -> bool`, of `Operand`s.
        like: avals of operands that the pattern can be traced with; `None` to try some.
        version: see `Placed.version`.
        ordered: whether operands of commutative operations have to be in the pattern's order.
    """

    name: str
    pattern: Function
    replacement: Function
    when: Function | None = None
    like: tuple[Aval, ...] | None = None
    version: str = ""
    ordered: bool = False
    _traced: dict[Any, Program | None] = field(default_factory=dict[Any, Any], compare=False)
    _skeletons: dict[Any, list[Pattern]] = field(default_factory=dict[Any, Any], compare=False)

    @cached_property
    def operands(self) -> list[str]:
        """Names of the pattern's operands."""
        return [n for n, p in self._parameters.items() if p.kind is not p.KEYWORD_ONLY]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Its static parameters, as it is traced to begin with."""
        kinds = self._parameters.items()
        return {n: p.default for n, p in kinds if p.kind is p.KEYWORD_ONLY}

    @cached_property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        found = dict(inspect.signature(self.pattern).parameters)
        for parameter in found.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                self.fail("the pattern of a rule names its operands", f"*{parameter.name}")
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                self.fail(
                    "a static parameter of a pattern has a value to trace it with",
                    f"{parameter.name} without a default",
                )
        return found

    def fail(self, asked: str, found: str, line: object = None) -> Any:
        """Raises a `PassError` that names the rule."""
        raise PassError(compose(f"{asked}: rule {self.name}", found=found, line=line))

    def examples(self, dtype: Any) -> Iterator[Sequence[Aval]]:
        """Operands to trace the pattern with: all of one rank, and some of different ones."""
        if self.like is not None:
            yield self.like
            return
        count = len(self.operands)
        ranks = [(rank,) * count for rank in (2, 1, 0, 3, 4)]
        if 1 < count <= 3:
            every = itertools.product((0, 1, 2), repeat=count)
            ranks += [mixed for mixed in every if len(set(mixed)) > 1]
        for each in ranks:
            yield [Aval((4,) * rank, dtype) for rank in each]

    def check(self) -> None:
        """Raises unless the pattern can be traced, and consists of operations on its operands."""
        problem: Exception | None = None
        for dtype in (dtypes.float32, dtypes.int32, dtypes.bool_, dtypes.complex64):
            for avals in self.examples(dtype):
                try:
                    program = self._trace(self.pattern, avals, self.defaults)
                except PassError:
                    raise
                except Exception as error:
                    problem = problem or error
                    continue
                self._check_pattern(program)
                return
        found = f"{type(problem).__name__}: {problem}"
        asked = "a pattern is traced with arrays of a few shapes; give others by `like`"
        self.fail(asked, found)

    def _check_pattern(self, program: Program) -> None:
        (result,) = program.outputs
        if type(result) is not Variable or result in program.inputs:
            self.fail("a pattern has an operation", "one of its operands, or a constant")
        read = {a for e in program.equations for a in e.inputs if type(a) is Variable}
        pairs = zip(self.operands, program.inputs, strict=True)
        if unused := [name for name, variable in pairs if variable not in read]:
            self.fail("a pattern uses all its operands", f"{', '.join(unused)} unused")
        if program.effects:
            self.fail("a pattern has no effects", ", ".join(map(str, program.effects)))

    def pattern_for(
        self, avals: Sequence[Aval], params: dict[str, Any], simplify: Simplify
    ) -> Program | None:
        """The pattern for some operands, simplified; `None` where it makes no sense for them."""
        return self._remembered("pattern", avals, params, simplify)

    def skeletons(self, dtype: Any, simplify: Simplify) -> list[Pattern]:
        """The graphs of operations that the pattern may be, for results of a dtype."""
        key = dtype, config.epoch, simplify
        known = self._skeletons.get(key)
        if known is None:
            found: dict[Any, Pattern] = {}
            for each in dict.fromkeys((dtype, dtypes.float32)):
                for avals in self.examples(each):
                    program = self._pattern(avals, self.defaults, simplify)
                    if program is not None:
                        rough = Pattern(program, exact=False, ordered=self.ordered)
                        found.setdefault(shape_of(program), rough)
            known = self._skeletons[key] = list(found.values())
        return known

    def replacement_for(
        self, avals: Sequence[Aval], params: dict[str, Any], simplify: Simplify, result: Aval
    ) -> Program:
        """The replacement for some operands, simplified.

        Raises:
            PassError: if it fails, or its result is not of the shape and dtype of the pattern's.
        """
        program = self._remembered("replacement", avals, params, simplify)
        assert program is not None
        (found,) = program.output_avals
        if not same_type(found, result):
            operands = ", ".join(map(str, avals))
            self.fail(
                "a replacement gives the shape and dtype of what it replaces",
                f"{found} instead of {result}, for operands ({operands})",
            )
        return program

    def _remembered(
        self, which: str, avals: Sequence[Aval], params: dict[str, Any], simplify: Simplify
    ) -> Program | None:
        key = (which, tuple(avals), param_key(params), config.epoch, simplify)
        if key not in self._traced:
            while len(self._traced) >= REMEMBERED:
                self._traced.pop(next(iter(self._traced)))
            made = self._pattern if which == "pattern" else self._replacement
            self._traced[key] = made(avals, params, simplify)
        return self._traced[key]

    def _pattern(
        self, avals: Sequence[Aval], params: dict[str, Any], simplify: Simplify
    ) -> Program | None:
        try:
            program = simplify(self._trace(self.pattern, avals, params))
        except PassError:
            raise
        except Exception:  # the pattern has its own ideas of operands, as any function of arrays
            return None
        (result,) = program.outputs
        return program if type(result) is Variable and result not in program.inputs else None

    def _replacement(
        self, avals: Sequence[Aval], params: dict[str, Any], simplify: Simplify
    ) -> Program:
        try:
            program = self._trace(self.replacement, avals, params)
        except (PassError, InconclusiveDimension):
            raise
        except Exception as error:
            operands = ", ".join(map(str, avals))
            asked = f"the replacement of rule {self.name} can be traced for ({operands})"
            found = f"{type(error).__name__}: {error}"
            raise PassError(compose(asked, found=found)) from error
        return simplify(program)

    def _trace(self, fn: Function, avals: Sequence[Aval], params: dict[str, Any]) -> Program:
        def flat(*operands: Any) -> list[Any]:
            result = _called(fn, operands, params)
            if not _is_one(result):
                self.fail("a rule is about one result", f"{result!r:.80}")
            return [result]

        program, captured = trace_program(flat, avals, self.name)
        if captured:
            self.fail("a rule does not depend on traced values", f"{captured[0]!r}")
        return program

    def applies(self, atoms: Sequence[Atom], params: dict[str, Any]) -> bool:
        """Whether the condition holds for what a pattern's operands are."""
        if self.when is None:
            return True
        return bool(_called(self.when, [_operand(a) for a in atoms], params))


def _called(fn: Function, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Calls a function with those of the parameters that it takes."""
    if not params:
        return fn(*operands)
    taken = inspect.signature(fn).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in taken):
        return fn(*operands, **params)
    names = {p.name for p in taken if p.kind is p.KEYWORD_ONLY}
    return fn(*operands, **{name: value for name, value in params.items() if name in names})


def _is_one(result: object) -> bool:
    return not isinstance(result, tuple | list | dict) and result is not None


def _operand(atom: Atom) -> Operand:
    value: Any = None
    if isinstance(atom, Literal) and not dtypes.is_key(atom.aval.dtype):
        value = np.asarray(atom.value._value)
    return Operand(atom.aval.shape, atom.aval.dtype, value)
