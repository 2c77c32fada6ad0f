"""Exception classes, and one way to word what they say.

The bases are those of JAX's exceptions of the same name, so that `except TypeError` in code written
for JAX keeps working.
"""

from __future__ import annotations

from collections.abc import Sequence


class CovectorTypeError(TypeError):
    """Base of the errors that tracing raises in place of a `TypeError`."""


class ConcretizationTypeError(CovectorTypeError):
    """A traced value was used where its concrete value is needed."""


class TracerArrayConversionError(CovectorTypeError):
    """A traced value was passed to NumPy, or to other code that wants its numbers."""


class TracerBoolConversionError(ConcretizationTypeError):
    """A traced value decides a Python branch: `if x > 0`, `while`, `and`, `assert`."""


class TracerIntegerConversionError(CovectorTypeError):
    """A traced value was used as a Python integer: in `range`, or as the index of a list."""


class UnexpectedTracerError(CovectorTypeError):
    """A traced value outlived the transformation that made it: it leaked."""


class NonConcreteBooleanIndexError(IndexError):
    """A traced boolean mask was used as an index, so the size of the result is not known."""


class TypePromotionError(ValueError):
    """Dtypes have no common dtype that all of them promote to."""


class UnsupportedRuleError(NotImplementedError):
    """A primitive declares that it cannot do what a transformation or backend asks of it."""


class NonFiniteError(FloatingPointError):
    """An operation gave a NaN or an infinity while `debug_nans` or `debug_infs` is on.

    Args:
        problem: which value, in which operation.
        found: the value and where it is in the result.
        line: the user's source line.
        where: the loops, branches and calls the operation is in, from the innermost one.
        lanes: for each enclosing `vmap`, the outermost first, its axis name and the index in it.
    """

    def __init__(
        self,
        problem: str,
        found: str = "",
        line: object = None,
        where: Sequence[str] = (),
        lanes: Sequence[tuple[object, int]] = (),
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.found = found
        self.line = line
        self.where = list(where)
        self.lanes = list(lanes)

    def __str__(self) -> str:
        text = compose(self.problem, found=self.found, line=self.line)
        for place in self.where:
            text += f"\n  in: {place}"
        for name, index in self.lanes:
            text += f"\n  lane: {index} of vmap" + ("" if name is None else f" over {name!r}")
        return text


class VerificationError(Exception):
    """A program breaks the rules of the IR: a fault of the pass or rule that built it."""


class PassError(Exception):
    """A pass or rule that a user registered failed, or broke what it was given."""


class CompilationError(RuntimeError):
    """A backend could not compile a program."""


class MissingCapabilityError(CompilationError):
    """A program needs what a backend declares that it does not have.

    Args:
        text: what is missing, where, and the likely fix.
        capability: what is missing, in two or three words.
    """

    def __init__(self, text: str, capability: str = "") -> None:
        super().__init__(text)
        self.capability = capability


class ExportError(ValueError):
    """A function cannot be exported: it needs what does not exist outside of this process."""


class DeserializationError(ValueError):
    """Bytes are no serialised function, or one that this version cannot read."""


class InconclusiveDimension(Exception):
    """A question about symbolic dimensions whose answer depends on their values."""


def compose(asked: str, *, found: str = "", fix: str = "", line: object = None) -> str:
    """Word an error message: what was asked, what was found, where, and the likely fix.

    Args:
        asked: what could not be done; a clause without a full stop.
        found: the shapes, dtypes or names that stand against it.
        fix: what the user can do; an imperative clause.
        line: the user's source line, anything that prints as one.

    Returns:
        The message, one part a line, empty parts left out.

    Example:
        >>> print(
        ...     compose(
        ...         "dot needs equal contracted dimensions",
        ...         found="f32[3,4] and f32[3,5]",
        ...         fix="transpose one operand",
        ...     )
        ... )
        dot needs equal contracted dimensions
          found: f32[3,4] and f32[3,5]
          fix: transpose one operand
    """
    parts = [asked]
    if found:
        parts.append(f"  found: {found}")
    if line is not None:
        parts.append(f"  at: {line}")
    if fix:
        parts.append(f"  fix: {fix}")
    return "\n".join(parts)
