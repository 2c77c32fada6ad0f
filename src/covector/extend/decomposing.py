"""Programs of decompositions, traced once for each kind of operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from covector.core.avals import Aval
from covector.core.config import config
from covector.core.errors import compose
from covector.core.program import Program
from covector.core.trace import aval_of, set_trace, trace_program
from covector.extend.mapping import Mapped, map_program, of_one

_LIMIT = 256
"""Programs of one operation that are kept, the oldest forgotten first."""


class _Traced(NamedTuple):
    program: Program
    single: bool
    """Whether the function gave an array, not a sequence."""


class Decomposition:
    """A function of arrays as programs.

    Args:
        name: of the operation.
        function: positional operands, keyword parameters; gives an array or a sequence of them.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        self._known: dict[Any, _Traced] = {}

    def program(
        self, avals: Sequence[Aval], params: dict[str, Any], mapped: Mapped = ()
    ) -> Program:
        """The program for operands of some avals.

        Args:
            avals: with their batch axes.
            params: static.
            mapped: which operands have batch axes.

        Returns:
            The program, the same object for equal arguments.

        Raises:
            TypeError: if the function does not return arrays, or closes over traced values.
        """
        return self._traced(avals, params, mapped).program

    def is_single(self, avals: Sequence[Aval], params: dict[str, Any], mapped: Mapped) -> bool:
        """Whether the function gives an array, not a sequence."""
        return self._traced(avals, params, mapped).single

    def _traced(self, avals: Sequence[Aval], params: dict[str, Any], mapped: Mapped) -> _Traced:
        avals = [a.strong() for a in avals]
        # 2, 2.0 and True are equal, their texts are not.
        given = tuple([(name, value, repr(value)) for name, value in sorted(params.items())])
        key = (tuple(avals), mapped, given, config.trace_key())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _LIMIT:
                self._known.pop(next(iter(self._known)))
            found = self._known[key] = self._trace(avals, params, mapped)
        return found

    def _trace(self, avals: Sequence[Aval], params: dict[str, Any], mapped: Mapped) -> _Traced:
        if mapped:
            inner, sizes = of_one(avals, mapped)
            one = self._traced(inner, params, ())
            return _Traced(map_program(one.program, mapped, sizes), one.single)
        single = [False]

        def flat(*operands: Any) -> Sequence[Any]:
            results = self._function(*operands, **params)
            single[0] = not isinstance(results, (tuple, list))
            outs = [results] if single[0] else list(cast("Sequence[Any]", results))
            _check_results(self._name, outs)
            return outs

        # It means the same wherever it is traced.
        previous = set_trace(None)
        try:
            program, captured = trace_program(flat, avals, self._name)
        finally:
            set_trace(previous)
        if captured:
            raise TypeError(
                compose(
                    f"the decomposition of {self._name} depends on its operands alone",
                    found=f"traced values it closes over: {[aval_of(v) for v in captured]}",
                    fix="pass them as operands",
                )
            )
        return _Traced(program, single[0])


def _check_results(name: str, outs: Sequence[Any]) -> None:
    for out in outs:
        if isinstance(out, (dict, set, str, tuple, list)) or out is None:
            raise TypeError(
                compose(
                    f"the decomposition of {name} gives an array or a tuple of arrays",
                    found=f"a {type(cast('object', out)).__name__}",
                    fix="return arrays side by side, and put them together outside",
                )
            )
