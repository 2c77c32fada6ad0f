"""The stages of a jitted function: traced, lowered, compiled."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from covector.core import config as settings
from covector.core import dtypes, nans, pytree
from covector.core.array import as_array
from covector.core.avals import Aval
from covector.core.backend import Executable
from covector.core.program import Program
from covector.core.trace import Tracer

if TYPE_CHECKING:
    from covector.transforms.jit import Call, Compiler


class ShapeDtypeStruct:
    """Shape and dtype of an array that is not there.

    Args:
        shape: its extents.
        dtype: its element type.
        weak_type: whether the dtype gives way in promotion.
    """

    __slots__ = ("aval",)

    def __init__(self, shape: Sequence[Any], dtype: Any, weak_type: bool = False) -> None:
        self.aval = Aval(tuple(shape), dtypes.requested(dtype), weak_type)

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return self.aval.ndim

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShapeDtypeStruct) and self.aval == other.aval

    def __hash__(self) -> int:
        return hash(self.aval)

    def __repr__(self) -> str:
        return f"ShapeDtypeStruct(shape={self.shape}, dtype={self.dtype})"


class Shaped(Tracer):
    """An argument of the staged API that is only a shape; never computed with."""

    __slots__ = ()

    def __init__(self, aval: Aval) -> None:
        self.aval = aval


def shapes_only(args: Any, kwargs: Any) -> Any:
    """Arguments with tracers that have no value for `ShapeDtypeStruct`s."""

    def shape_only(x: Any) -> Any:
        if isinstance(x, ShapeDtypeStruct):
            return Shaped(x.aval)
        return x

    return pytree.map(shape_only, (args, kwargs))


class Traced:
    """A function traced for a signature.

    Attributes:
        program: the traced program.
        out_info: shapes and dtypes of the output.
    """

    def __init__(self, compiler: Compiler, call: Call, args: Any) -> None:
        self._compiler = compiler
        self._call = call
        self._args = args

    @property
    def program(self) -> Program:
        return self._call.program

    @property
    def out_info(self) -> Any:
        infos = [ShapeDtypeStruct(a.shape, a.dtype, a.weak_type) for a in self.program.output_avals]
        return pytree.unflatten(self._call.out_tree, infos)

    def as_text(self) -> str:
        """The program."""
        return self.program.as_text()

    def lower(self) -> Lowered:
        """Prepares compilation."""
        return Lowered(self._compiler, self._call, self._args)


class Lowered:
    """A traced function bound to a backend and options."""

    def __init__(self, compiler: Compiler, call: Call, args: Any) -> None:
        self._compiler = compiler
        self._call = call
        self._args = args

    def compile(self) -> Compiled:
        """Compiles it."""
        executable = self._compiler.executable(self._call, *self._args)
        return Compiled(self._compiler, self._call, executable)

    def as_text(self, stage: str = "program") -> str:
        """The code at a stage: "program", or what the backend offers ("loopir", "llvm")."""
        if stage == "program":
            return self._call.program.as_text()
        return self.compile().as_text(stage)

    def explain(self, *, sections: str | Sequence[str] | None = None, run: bool = False) -> Any:
        """A report on what it compiles to; see `JitFunction.explain`."""
        return _explain(self.compile(), sections, self._args if run else None)


class Compiled:
    """A compiled function: called with arguments of the signature it was made for."""

    def __init__(self, compiler: Compiler, call: Call, executable: Executable) -> None:
        self._compiler = compiler
        self._call = call
        self._executable = executable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = canonical(pytree.leaves((args, kwargs)))
        count = len(self._call.program.inputs)
        if len(leaves) != count:
            raise TypeError(
                f"a compiled function takes the {count} arrays it was made for, without the static "
                f"arguments; got {len(leaves)}"
            )
        kept = self._call.kept
        given = leaves if kept is None else [leaves[k] for k in kept]
        results = self._executable(*given)
        if settings.watching and nans.enabled():
            nans.check_outputs(self._compiler.name, self._call.program, leaves, results)
        return pytree.unflatten(self._call.out_tree, results)

    def as_text(self, stage: str = "") -> str:
        """The code at one stage of compilation."""
        return self._executable.as_text(stage)

    def cost_analysis(self) -> dict[str, Any]:
        """Estimated flops and bytes (see `covector.compiler.costs`), and the buffers."""
        return self._executable.cost()

    def explain(self, *, sections: str | Sequence[str] | None = None) -> Any:
        """A report on it; see `JitFunction.explain`."""
        return _explain(self, sections, None)


def _explain(compiled: Compiled, sections: str | Sequence[str] | None, args: Any) -> Any:
    """A report; what makes it is imported by name, since it stands above transformations."""
    return importlib.import_module("covector.inspect").explain(compiled, sections, args)


def canonical(leaves: list[Any]) -> list[Any]:
    """The same list, unless it has NumPy data of dtypes that arrays do not have (64 bits)."""
    if not any([_is_wide(x) for x in leaves]):
        return leaves
    return [as_array(x) if _is_wide(x) else x for x in leaves]


def _is_wide(x: Any) -> bool:
    numpy_data = isinstance(x, (np.ndarray, np.generic))
    return numpy_data and dtypes.canonicalize(cast("Any", x).dtype) != cast("Any", x).dtype
