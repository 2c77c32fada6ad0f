"""Vectorising map: operations on examples become operations on batches."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from covector.core import config as settings
from covector.core import nans, pytree
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.errors import ConcretizationTypeError, compose
from covector.core.operand import Operand
from covector.core.primitive import Primitive
from covector.core.program import Program, all_equations, subprograms
from covector.core.source import here
from covector.core.trace import (
    Trace,
    Tracer,
    aval_of,
    check_live,
    eval_program,
    get_trace,
    named_axis,
    set_trace,
    trace_program,
)
from covector.ops.common import batch_at_front, move_axis
from covector.transforms.context import BatchingContext, refuse_captured
from covector.transforms.flat import (
    FlatFunction,
    check_leaves,
    function_name,
    named_like,
    operands,
)


class BatchTracer(Tracer):
    """One example of a batch: `value` has the batch axis at `dim`, the aval does not."""

    __slots__ = ("batch", "dim", "value")

    def __init__(self, trace: BatchTrace, value: Any, dim: int) -> None:
        self._trace = self.batch = trace
        self.value = value
        self.dim = dim
        aval = aval_of(value)
        shape = aval.shape
        self.aval = Aval(shape[:dim] + shape[dim + 1 :], aval.dtype, aval.weak_type)


class BatchTrace(Trace):
    """Applies batching rules under the parent trace."""

    __slots__ = ("context", "examples")

    def __init__(self, parent: Trace | None, context: BatchingContext) -> None:
        super().__init__(parent, "vmap")
        self.context = context
        self.examples = context.axis_size

    def split(self, args: Sequence[Any]) -> tuple[list[Any], list[int | None], bool]:
        """Values, their batch axes, and whether any has one."""
        values: list[Any] = []
        dims: list[int | None] = []
        batched = False
        for a in args:
            # Rules of custom derivatives run again under a new trace of the same `vmap`; what
            # they close over belongs to the first one.
            if type(a) is BatchTracer and a.batch.context is self.context:
                if a._trace.finished:
                    check_live(a)
                values.append(a.value)
                dims.append(a.dim)
                batched = True
            else:
                values.append(a)
                dims.append(None)
        return values, dims, batched

    def join(self, value: Any, dim: int | None) -> Any:
        """A tracer for one example of `value`; the value itself where it has no batch axis."""
        return value if dim is None else BatchTracer(self, value, dim)

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        values, dims, batched = self.split(args)
        if not batched and "call" in primitive.tags and "call" in params:
            if self.parent is None and primitive.direct is not None:
                return primitive.direct(*operands(args), **params)  # nobody could want the rule
            args, params = self._with_closure(primitive, args, params)
            values, dims, batched = self.split(args)
        previous = set_trace(self.parent)
        try:
            if not batched and not self._uses_my_axis(primitive, params):
                return primitive(*values, **params)
            rule = primitive.batch
            if settings.watching and nans.enabled():
                rule = nans.by_lane(rule, primitive.multiple_results, self.context)
            out, out_dim = rule(self.context, values, dims, **params)
        finally:
            set_trace(previous)
        if primitive.multiple_results:
            return [self.join(o, d) for o, d in zip(out, out_dim, strict=True)]
        return self.join(out, out_dim)

    def _with_closure(
        self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """Operands and parameters of a custom rule's call, batched values it closes over first."""
        if "program" in params or primitive.prepare is None:
            return args, params
        try:
            prepared = primitive.prepare(args, params)
        except ConcretizationTypeError:  # it looks at values, which no program can
            return args, params
        mine = self.split(prepared[0])[2] or self._uses_my_axis(primitive, prepared[1])
        return prepared if mine else (args, params)

    def _uses_my_axis(self, primitive: Primitive, params: dict[str, Any]) -> bool:
        """Whether a collective over this batch's axis is applied, in a nested program perhaps."""
        name = self.context.axis_name
        if name is None:
            return False
        if "collective" in primitive.tags:
            return params["axis_name"] == name
        return any([name in _axes_used(program) for program in subprograms(params)])


_axes_known: weakref.WeakKeyDictionary[Program, list[Any]] = weakref.WeakKeyDictionary()


def _axes_used(program: Program) -> list[Any]:
    """The axis names of a program's collectives, in nested programs too."""
    found = _axes_known.get(program)
    if found is None:
        found = [
            e.params["axis_name"]
            for e in all_equations(program)
            if "collective" in e.primitive.tags
        ]
        _axes_known[program] = found
    return found


def batch_flat(
    fn: Callable[..., Sequence[Any]],
    context: BatchingContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
) -> tuple[list[Any], list[int | None]]:
    """Applies `fn` to every example of a batch of flat operands."""
    trace = BatchTrace(get_trace(), context)
    tracers = [trace.join(x, d) for x, d in zip(args, dims, strict=True)]
    previous = set_trace(trace)
    try:
        # Rules of custom derivatives may run when `vmap` has returned: the name is set here.
        with named_axis(context.axis_name, context.axis_size):
            results = fn(*tracers)
    finally:
        set_trace(previous)
    values, out_dims, _ = trace.split(results)
    trace.finished = True
    return values, out_dims


def batch_program(
    context: BatchingContext, program: Program, batched: Sequence[bool], forced: Sequence[bool]
) -> tuple[Program, list[bool]]:
    """The program over a leading batch axis of the marked inputs (see `BatchContext.batch`)."""
    avals = [
        Aval((context.axis_size, *a.shape), a.dtype, a.weak_type) if b else a
        for a, b in zip(program.input_avals, batched, strict=True)
    ]
    dims = [0 if b else None for b in batched]
    out_batched: list[bool] = []

    def mapped(*args: Any) -> list[Any]:
        values, out_dims = batch_flat(lambda *a: eval_program(program, *a), context, args, dims)
        outs: list[Any] = []
        for value, dim, force in zip(values, out_dims, forced, strict=True):
            wanted = force or dim is not None
            out_batched.append(wanted)
            outs.append(batch_at_front(value, dim, context.axis_size) if wanted else value)
        return outs

    transformed, captured = trace_program(mapped, avals, program.name)
    refuse_captured(program, captured)
    return transformed, out_batched


def vmap(
    fun: Callable[..., Any],
    in_axes: Any = 0,
    out_axes: Any = 0,
    axis_name: Any = None,
    axis_size: int | None = None,
    spmd_axis_name: Any = None,
) -> Callable[..., Any]:
    """A function that applies `fun` to every element of a batch at once.

    Args:
        fun: a function of pytrees of arrays.
        in_axes: the batch axis of each argument: an `int`, `None` for an argument that is the
            same for all elements, or a tuple or list of these, each possibly a pytree prefix of
            its argument. Keyword arguments are batched along axis 0.
        out_axes: where the batch axis of each output goes; `None` for one that does not depend
            on the batched arguments. A pytree prefix of the output.
        axis_name: a name for collective operations inside `fun` to use (`lax.psum` and others),
            any hashable object.
        axis_size: the size of the batch; found from the arguments when there is a batched one.
        spmd_axis_name: must be `None`: the axis cannot be spread over devices.

    Returns:
        The batched function.

    Raises:
        TypeError: if `fun` is no function or the axes are no integers.
        NotImplementedError: for `spmd_axis_name`.
        ValueError: when calling it, if sizes along the batch axes differ, an axis is out of
            range, or an output that depends on the batch has `None` in `out_axes`.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> cv.vmap(lambda row, scale: row.sum() * scale, in_axes=(0, None))(cnp.ones((2, 3)), 2.0)
    Array([6., 6.], dtype=float32)
    """
    if not callable(fun):
        raise TypeError(f"vmap expects a function, got {type(fun).__name__}: {fun!r:.80}")
    name = function_name(fun)
    if isinstance(in_axes, list):
        in_axes = tuple(cast("list[Any]", in_axes))
    _check_options(name, in_axes, out_axes, axis_name, axis_size, spmd_axis_name)

    def batched_fun(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = pytree.flatten((args, kwargs))
        axes = _input_dims(name, in_axes, args, kwargs)
        _check_batched(name, args, kwargs, axes)
        leaves = [x if d is None else operands([x])[0] for x, d in zip(leaves, axes, strict=True)]
        dims = [_normalize(name, x, d) for x, d in zip(leaves, axes, strict=True)]
        size = _axis_size(name, args, kwargs, dims, axis_size)
        context = BatchingContext(size, axis_name)
        flat = FlatFunction(fun, tree)
        values, out_dims = batch_flat(flat, context, leaves, dims)
        wanted = _output_dims(name, out_axes, flat.out_tree)
        outs = [
            _place(name, v, d, w, size) for v, d, w in zip(values, out_dims, wanted, strict=True)
        ]
        return pytree.unflatten(flat.out_tree, outs)

    return named_like(batched_fun, fun, "vmap")


def _check_options(
    name: str, in_axes: Any, out_axes: Any, axis_name: Any, axis_size: Any, spmd_axis_name: Any
) -> None:
    if not (in_axes is None or type(in_axes) in (int, tuple)):
        _refuse_axes(name, "in_axes", in_axes, "an int, None, or a tuple with an entry for each")
    for what, axes in (("in_axes", in_axes), ("out_axes", out_axes)):
        if not all([type(axis) is int for axis in pytree.leaves(axes)]):
            _refuse_axes(name, what, axes, "an int, None, or containers of these")
    hash(axis_name)
    if axis_size is not None and (
        isinstance(axis_size, bool) or not isinstance(axis_size, (int, Dim)) or axis_size < 0
    ):
        raise TypeError(
            compose(
                f"vmap of {name}: axis_size must be a number of elements",
                found=f"{axis_size!r}"[:80],
                line=here(),
            )
        )
    if spmd_axis_name is not None:
        raise NotImplementedError(
            compose(
                f"vmap of {name}: spmd_axis_name asks for an axis of devices, and there are none",
                found=f"{spmd_axis_name!r}"[:80],
                fix="leave it out; axis_name names the axis for lax.psum and others",
                line=here(),
            )
        )


def _refuse_axes(name: str, what: str, axes: Any, wanted: str) -> NoReturn:
    raise TypeError(
        compose(f"vmap of {name}: {what} must be {wanted}", found=f"{axes!r}"[:120], line=here())
    )


def _input_dims(name: str, in_axes: Any, args: Any, kwargs: Any) -> list[Any]:
    if isinstance(in_axes, tuple):
        count = len(cast("tuple[Any, ...]", in_axes))
        if count != len(args):
            raise ValueError(
                f"vmap of {name}: in_axes has {count} entries but {name} was called with "
                f"{len(args)} positional arguments; give one entry for each"
            )
    dims = pytree.broadcast_prefix(in_axes, args, f"vmap of {name}: in_axes")
    return dims + [0] * len(pytree.leaves(kwargs))


def _check_batched(name: str, args: Any, kwargs: Any, dims: list[Any]) -> None:
    """Raises unless what is batched are arrays and numbers; anything else goes through."""
    leaves = pytree.leaves((args, kwargs))
    if all([d is None or isinstance(x, Operand) for x, d in zip(leaves, dims, strict=True)]):
        return
    tree = pytree.structure((args, kwargs))
    batched = [0 if d is None else x for x, d in zip(leaves, dims, strict=True)]
    check_leaves(f"vmap of {name}: batched arguments", pytree.unflatten(tree, batched))


def _normalize(name: str, x: Any, dim: Any) -> int | None:
    if dim is None:
        return None
    aval = aval_of(x)
    if not -aval.ndim <= dim < aval.ndim:
        raise ValueError(
            compose(
                f"vmap of {name}: in_axes asks for axis {dim} of an argument",
                found=f"an argument of type {aval}, which has {aval.ndim} axes",
                fix="use None for arguments that are not batched",
                line=here(),
            )
        )
    return dim % aval.ndim


def _axis_size(
    name: str, args: Any, kwargs: Any, dims: list[int | None], axis_size: int | None
) -> Any:
    leaves = pytree.leaves((args, kwargs))
    sizes: list[Any] = [
        aval_of(x).shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None
    ]
    if axis_size is not None:
        sizes.append(axis_size)
    if not sizes:
        raise ValueError(
            f"vmap of {name}: no argument has a batch axis; "
            "set an entry of in_axes to an axis, or give axis_size"
        )
    if any([s != sizes[0] for s in sizes]):
        paths = [pytree.keystr(p) for p, _ in pytree.leaves_with_path((args, kwargs))]
        found = "; ".join(
            f"{_argument_name(p)} {aval_of(x)} along axis {d}"
            for p, x, d in zip(paths, leaves, dims, strict=True)
            if d is not None
        )
        extra = "" if axis_size is None else f"; axis_size={axis_size}"
        raise ValueError(
            compose(f"vmap of {name}: batch sizes must be equal", found=found + extra, line=here())
        )
    return sizes[0]


def _argument_name(path: str) -> str:
    return ("args" + path[3:]) if path.startswith("[0]") else ("kwargs" + path[3:])


def _output_dims(name: str, out_axes: Any, tree: Any) -> list[Any]:
    skeleton = pytree.unflatten(tree, [0] * tree.num_leaves)
    return pytree.broadcast_prefix(out_axes, skeleton, f"vmap of {name}: out_axes")


def _place(name: str, value: Any, dim: int | None, wanted: Any, size: Any) -> Any:
    if wanted is None:
        if dim is not None:
            raise ValueError(
                compose(
                    f"vmap of {name}: out_axes is None for an output that depends on the batched "
                    "arguments",
                    found=f"{aval_of(value)}, batch axis {dim}",
                    fix="give it an axis",
                    line=here(),
                )
            )
        return value
    ndim = aval_of(value).ndim + (dim is None)
    if not -ndim <= wanted < ndim:
        raise ValueError(
            compose(
                f"vmap of {name}: out_axes asks for axis {wanted} of an output with {ndim} axes",
                found=f"{aval_of(value)}" if dim is None else f"{aval_of(value)}, the batch's too",
                line=here(),
            )
        )
    value = batch_at_front(value, dim, size) if dim is None else value
    return move_axis(value, dim or 0, wanted % ndim)
