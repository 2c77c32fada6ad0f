"""How operations that users define are run: shapes, evaluation, lowering, and what is derived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import interpret
from covector.core.array import as_array
from covector.core.avals import Aval, same_type
from covector.core.backend import executable
from covector.core.errors import compose
from covector.core.interpret import stored_form
from covector.core.primitive import Rule
from covector.core.program import Program
from covector.core.trace import set_trace, trace_program
from covector.extend.decomposing import Decomposition
from covector.extend.mapping import Mapped
from covector.ops.matrix_primitives import lower_by_evaluation

Bind = Callable[[Sequence[Any], dict[str, Any]], list[Any]]
"""Applies an operation: operands and parameters to the list of results."""


def _not_yet(operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    raise AssertionError("an operation was applied while it was being defined")


class Running:
    """The rules by which an operation runs.

    Args:
        name: of the operation.
        shape: rules of the user's, as for `operation`.
        evaluate: likewise.
        decomposition: likewise.
        lower: likewise.
        multiple_results: whether those rules give sequences.

    Attributes:
        bind: applies the operation; set when it exists.
        many: whether its primitive has several results.
    """

    def __init__(
        self,
        name: str,
        shape: Rule | None,
        evaluate: Rule | None,
        decomposition: Decomposition | None,
        lower: Rule | None,
        multiple_results: bool,
    ) -> None:
        self.name = name
        self.bind: Bind = _not_yet
        self.decomposition = decomposition
        self.many = multiple_results or decomposition is not None
        self._sequences = multiple_results
        self._shape = shape
        self._evaluate = evaluate
        self._lower = lower

    @property
    def compiled(self) -> bool:
        """Whether eager calls compile it."""
        return self._evaluate is None

    @property
    def fuses(self) -> bool:
        """Whether elements can be computed where they are used, if it acts on each alone."""
        return self._lower is not None and self.decomposition is None

    def is_single(self, avals: Sequence[Aval], params: dict[str, Any]) -> bool:
        """Whether calls give an array, not a tuple."""
        if self.decomposition is None:
            return not self._sequences
        own = {k: v for k, v in params.items() if k != "mapped"}
        return self.decomposition.is_single(avals, own, params.get("mapped", ()))

    def _listed(self, results: Any, rule: str) -> list[Any]:
        """What a rule of the user's returned, as a list."""
        if not self._sequences and not (
            self.decomposition is not None and isinstance(results, (tuple, list))
        ):
            return [results]
        if not isinstance(results, (tuple, list)):
            raise TypeError(
                compose(
                    f"the {rule} rule of {self.name} gives a sequence, since it was defined with "
                    "multiple_results",
                    found=f"a {type(results).__name__}",
                )
            )
        return list(cast("Sequence[Any]", results))

    def _out(self, results: list[Any]) -> Any:
        return results if self.many else results[0]

    # --- shape ---

    def shape(self, *avals: Aval, mapped: Mapped = (), **params: Any) -> Any:
        """The shape rule of the primitive."""
        made = self.decomposition
        if made is not None:
            found = made.program(avals, params, mapped).output_avals
            if self._shape is None or mapped:
                return found
        assert self._shape is not None
        declared = [self._as_aval(a) for a in self._listed(self._shape(*avals, **params), "shape")]
        if made is not None:
            found = made.program(avals, params).output_avals
            if len(found) != len(declared) or not all(map(same_type, found, declared)):
                raise TypeError(
                    compose(
                        f"the shape rule and the decomposition of {self.name} contradict each "
                        f"other for {', '.join(map(str, avals))}",
                        found=f"{declared} and {found}",
                    )
                )
        return self._out(declared)

    def _as_aval(self, found: Any) -> Aval:
        if isinstance(found, Aval):
            return found
        if hasattr(found, "shape") and hasattr(found, "dtype"):
            return Aval(found.shape, np.dtype(found.dtype))
        raise TypeError(
            compose(
                f"the shape rule of {self.name} gives avals, or what has a shape and a dtype",
                found=f"a {type(found).__name__}",
                fix="return one of the avals it was given, or aval.update(shape=..., dtype=...)",
            )
        )

    # --- evaluation ---

    def evaluate(self, *operands: Any, mapped: Mapped = (), **params: Any) -> Any:
        """The evaluate rule of the primitive."""
        avals = [Aval(x.shape, x.dtype) for x in operands]
        if self._evaluate is not None and not mapped:
            results = self._listed(self._evaluate(*operands, **params), "evaluate")
            shapes = self.shape(*avals, **params)
            listed = shapes if self.many else [shapes]
            return self._out([self._tidy(r, a) for r, a in zip(results, listed, strict=True)])
        if self.decomposition is not None:
            return interpret.run(self.decomposition.program(avals, params, mapped), *operands)
        program = self._alone(avals, params)
        results = executable(program, backend="native")(*[as_array(x) for x in operands])
        return self._out([r._value for r in results])

    def _tidy(self, result: Any, aval: Aval) -> Any:
        """A result as an array of its dtype; other kinds of number are a mistake in the rule."""
        shape, dtype = stored_form(aval)
        found = np.asarray(result)
        if found.shape != tuple(shape) or not np.can_cast(found.dtype, dtype, "same_kind"):
            raise TypeError(
                compose(
                    f"the evaluate rule of {self.name} gives what its shape rule says",
                    found=f"{found.dtype}{list(found.shape)} instead of {aval}",
                )
            )
        return found.astype(dtype, copy=False)

    def _alone(self, avals: Sequence[Aval], params: dict[str, Any]) -> Program:
        """The operation as a program."""
        previous = set_trace(None)
        try:
            program, _ = trace_program(lambda *x: self.bind(x, params), avals, self.name)
        finally:
            set_trace(previous)
        return program

    # --- lowering ---

    def decompose(self, *avals: Aval, mapped: Mapped = (), **params: Any) -> Program | None:
        """The decompose rule of the primitive: none where it has a lowering of its own."""
        if self.decomposition is None or (self._lower is not None and not mapped):
            return None
        return self.decomposition.program(avals, params, mapped)

    def lower(self, b: Any, *tensors: Any, mapped: Mapped = (), **params: Any) -> Any:
        """The lower rule of the primitive."""
        if self._lower is not None and not mapped:
            return self._out(self._listed(self._lower(b, *tensors, **params), "lower"))
        if self.decomposition is not None:
            avals = [a.aval for a in b.equation.inputs]
            return b.inline(self.decomposition.program(avals, params, mapped), tensors)

        def evaluate(*operands: Any) -> list[Any]:
            results = self.evaluate(*operands, **params)
            return results if self.many else [results]

        avals = [v.aval for v in b.equation.outputs]
        return self._out(lower_by_evaluation(b, evaluate, tensors, avals))
