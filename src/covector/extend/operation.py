"""Operations that users define, with the rules that the built-in ones have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, overload

from covector.core.backend import clear_cache
from covector.core.errors import compose
from covector.core.primitive import REGISTRY, Primitive, Rule, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of
from covector.extend.decomposing import Decomposition
from covector.extend.derivatives import Derivatives
from covector.extend.mapping import Mapped
from covector.extend.running import Running
from covector.ops.callback import one_by_one
from covector.ops.common import front
from covector.ops.factory import align_batched, lanes_elementwise
from covector.ops.registry import load_all
from covector.transforms.flat import function_name

_OPERATIONS: dict[str, Operation] = {}


class Operation:
    """An operation of a user's: called like a function, differentiated and compiled as built-ins.

    Made by `operation`, `decomposition` and `foreign`.

    Attributes:
        name: what it is called in programs.
        primitive: what stands in their equations.
    """

    def __init__(
        self,
        name: str,
        running: Running,
        derivatives: Derivatives,
        *,
        batch: Rule | None,
        lanes: Rule | None,
        elementwise: bool,
        module: str,
        doc: str | None,
    ) -> None:
        self.name = self.__name__ = name
        self.__doc__ = doc
        self.module = module
        self._running = running
        self._derivatives = derivatives
        self._batch = batch
        self._elementwise = elementwise
        running.bind = derivatives.bind = self._bind
        whole = running.decomposition is None
        with _claimed(name, module):
            self.primitive = Primitive(
                name,
                shape=running.shape,
                evaluate=running.evaluate,
                jvp=derivatives.jvp,
                transpose=derivatives.transpose,
                batch=self._batch_rule,
                lower=running.lower,
                lanes=lanes or _lanes(name, elementwise, whole),
                multiple_results=running.many,
                compiled=running.compiled,
                decompose=None if whole else running.decompose,
                tags=frozenset({"elementwise"} if elementwise and running.fuses else ()),
            )
        self._renew()
        _OPERATIONS[name] = self

    def __call__(self, *operands: Any, **params: Any) -> Any:
        _check_params(self.name, params)
        results = self.primitive(*operands, **params)
        if not self._running.many:
            return results
        avals = [aval_of(x) for x in operands]
        return results[0] if self._running.is_single(avals, params) else tuple(results)

    def _bind(self, operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
        """Applies the primitive; always gives a list."""
        results = self.primitive(*operands, **params)
        return results if self._running.many else [results]

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the forward derivative, in place of what was given or derived.

        Args:
            rule: `(primals, tangents, **params) -> (results, tangents of results)`.

        Returns:
            `rule`, so that this works as a decorator.
        """
        self._derivatives.jvp_rule = rule
        self._derivatives.vjp_rule = None
        self._renew()
        return rule

    def defvjp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the backward derivative, in place of what was given or derived.

        Args:
            rule: `(cotangents, results, operands, **params) -> cotangents of the operands`.

        Returns:
            `rule`, so that this works as a decorator.
        """
        self._derivatives.vjp_rule = rule
        self._derivatives.jvp_rule = None
        self._renew()
        return rule

    def _renew(self) -> None:
        self.primitive.linearize = self._derivatives.linearize_rule()

    def _batch_rule(
        self,
        ctx: Any,
        args: Sequence[Any],
        dims: Sequence[int | None],
        *,
        mapped: Mapped = (),
        **params: Any,
    ) -> Any:
        many = self._running.many
        if self._batch is not None and not mapped:
            return self._batch(ctx.axis_size, args, dims, **params)
        if self._elementwise:
            aligned, dim = align_batched(args, dims)
            outs = self._bind(aligned, params)
            return (outs, [dim] * len(outs)) if many else (outs[0], dim)
        if self._running.decomposition is not None:
            flags = tuple([d is not None for d in dims])
            outs = self._bind(front(args, dims), {**params, "mapped": (*mapped, flags)})
            return (outs, [0] * len(outs)) if many else (outs[0], 0)
        outs, out_dims = one_by_one(lambda *own: self._bind(own, params), ctx, args, dims)
        return (outs, out_dims) if many else (outs[0], out_dims[0])

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_operation_named, (self.name,))


def _operation_named(name: str) -> Operation:
    found = _OPERATIONS.get(name)
    if found is None:
        raise LookupError(
            compose(
                f"there is no operation {name!r} in this process",
                fix="import the module that defines it before unpickling what uses it",
            )
        )
    return found


class _claimed:  # noqa: N801  # used like a function
    """Lets a name be defined again by the module that defined it, as in a cell that is run again.

    Another module's operation, or a built-in one, is not replaced.
    """

    def __init__(self, name: str, module: str) -> None:
        self._name = name
        self._before: Primitive | None = None
        if name not in REGISTRY:
            load_all()  # a built-in one that nobody has used yet is not there
        known = _OPERATIONS.get(name)
        if name in REGISTRY and (known is None or known.module != module):
            owner = "covector" if known is None else known.module
            prefix = "my" if module == "__main__" else module.rpartition(".")[2]
            raise ValueError(
                compose(
                    f"an operation cannot be called {name!r}",
                    found=f"one of that name, defined by {owner}",
                    fix=f"choose another name, such as {prefix}_{name}",
                )
            )

    def __enter__(self) -> None:
        self._before = REGISTRY.pop(self._name, None)

    def __exit__(self, *exception: object) -> None:
        if self._before is None:
            return
        if exception[0] is None:
            clear_cache()  # compiled code knows operations by their names
        else:
            REGISTRY[self._name] = self._before


def _lanes(name: str, elementwise: bool, whole: bool) -> Rule:
    if not whole:
        return unsupported("its decomposition stands in its place before lanes are looked for")
    if elementwise:
        return lanes_elementwise
    return unsupported(f"no `lanes` rule of {name} says which axis of its results lanes are along")


def _check_params(name: str, params: dict[str, Any]) -> None:
    for key, value in params.items():
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                compose(
                    f"{name}: the parameter {key} is part of the program, and must not change",
                    found=f"a value of type {type(value).__name__}, which cannot be hashed",
                    fix="pass arrays as positional operands, lists as tuples",
                )
            ) from None


def operation(
    name: str,
    *,
    shape: Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
    decomposition: Callable[..., Any] | None = None,
    lower: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    transpose: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
    lanes: Callable[..., Any] | None = None,
    linear: bool = False,
    elementwise: bool = False,
    multiple_results: bool = False,
    doc: str | None = None,
) -> Operation:
    """Defines an operation on arrays by its rules, as the built-in ones are.

    One of `decomposition`, `lower` and `evaluate` has to say what it computes; what is left out is
    derived where that is possible, and refused with a reason where it is not:

    ======== ======================================================================================
    rule     derived from
    ======== ======================================================================================
    shape    the decomposition
    evaluate the decomposition, or `lower`, compiled
    lower    the decomposition, which the compiler puts in its place; or `evaluate`, which compiled
             code calls then (that enters the interpreter)
    jvp      `vjp`, transposed (if it is linear); `linear`; the decomposition
    vjp      `jvp`, linearized and transposed, as for built-in operations
    transpose `vjp` of a `linear` operation; the decomposition
    batch    `elementwise`; the decomposition, mapped; else a loop over the examples
    lanes    `elementwise`; the decomposition
    ======== ======================================================================================

    Args:
        name: unique; programs print it. A package of operations prefixes it.
        shape: `(*avals, **params) -> Aval`, or a sequence of them with `multiple_results`. An aval
            has `shape` and `dtype`; raise `TypeError` for operands that do not fit.
        evaluate: `(*ndarrays, **params) -> ndarray`, or a sequence: the meaning, in NumPy.
        decomposition: `(*arrays, **params) -> array`, or a tuple: the meaning, in Covector.
        lower: `(b, *tensors, **params) -> tensor`, or a sequence: native code through the loop IR
            builder, see `covector.loopir.tensor`.
        jvp: `(primals, tangents, **params) -> (result, tangent of the result)`, each a sequence
            with `multiple_results`. Where an operand does not vary its tangent is zeros.
        vjp: `(cotangent, result, operands, **params) -> cotangents of the operands`, a sequence;
            `None` stands for zero.
        transpose: `(cotangent, *operands, **params) -> cotangents of the operands`, for operations
            linear in some operands, which arrive as `Linear` markers; the others' are `None`.
        batch: `(size, operands, dims, **params) -> (result, dim)`, each a sequence with
            `multiple_results`; a dim is the batch axis of an operand, `None` where it has none.
        lanes: `(dims, *avals, **params) -> dim`: along which axis of the result the lanes are,
            given that of each operand.
        linear: it is linear in all operands together: its derivative is itself.
        elementwise: it acts on each element alone; operands have one shape or rank 0, and `lower`
            gives a lazy tensor that asks them for one element at each index.
        multiple_results: it gives several arrays. A decomposition may give a tuple in any case.
        doc: docstring of the operation.

    Returns:
        The operation. Positional operands are arrays, keyword arguments are static parameters.

    Raises:
        TypeError: for rules that do not say enough, or say the same twice.
        ValueError: if another module's operation has that name.

    Example:
        >>> import numpy as np
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> hinge = extend.operation(
        ...     "doc_hinge",
        ...     shape=lambda x: x,
        ...     evaluate=lambda x: np.maximum(x, 0),
        ...     jvp=lambda primals, tangents: (
        ...         hinge(primals[0]),
        ...         cnp.where(primals[0] > 0, tangents[0], 0),
        ...     ),
        ... )
        >>> cv.vmap(cv.grad(hinge))(cnp.array([-1.0, 2.0]))
        Array([0., 1.], dtype=float32)
    """
    _check_rules(name, shape, evaluate, decomposition, lower, jvp, vjp)
    if elementwise and multiple_results:
        raise TypeError(f"operation {name}: an elementwise operation has one result")
    module = _caller()
    made = None if decomposition is None else Decomposition(name, decomposition)
    running = Running(name, shape, evaluate, made, lower, multiple_results)
    derivatives = Derivatives(name, running, jvp, vjp, transpose, linear)
    return Operation(
        name,
        running,
        derivatives,
        batch=batch,
        lanes=lanes,
        elementwise=elementwise,
        module=module,
        doc=doc,
    )


def _check_rules(
    name: str,
    shape: Any,
    evaluate: Any,
    decomposition: Any,
    lower: Any,
    jvp: Any,
    vjp: Any,
) -> None:
    if evaluate is None and decomposition is None and lower is None:
        raise TypeError(
            compose(
                f"operation {name} does not say what it computes",
                found="neither `evaluate`, `decomposition` nor `lower`",
                fix="give one of them; a decomposition is the shortest",
            )
        )
    if shape is None and decomposition is None:
        raise TypeError(
            compose(
                f"operation {name} does not say what its result is",
                found="no `shape` rule, and no decomposition to derive it from",
                fix="give shape=lambda *avals: aval",
            )
        )
    if jvp is not None and vjp is not None:
        raise TypeError(
            compose(
                f"operation {name} has two derivatives",
                found="`jvp` and `vjp`",
                fix="give `jvp` alone: reverse mode is its transpose",
            )
        )


def _caller() -> str:
    """The module outside of this package that defines an operation."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(__package__):
        frame = frame.f_back
    return frame.f_globals.get("__name__", "__main__")


@overload
def decomposition(fn: Callable[..., Any], /) -> Operation: ...


@overload
def decomposition(
    *,
    name: str | None = None,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    elementwise: bool = False,
) -> Callable[[Callable[..., Any]], Operation]: ...


def decomposition(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    elementwise: bool = False,
) -> Operation | Callable[[Callable[..., Any]], Operation]:
    """A named operation whose meaning is a Covector function.

    Programs show the name; compilers put the function's program in its place, and derivatives are
    those of the function unless rules replace them.

    Args:
        fn: positional operands are arrays, keyword arguments static; gives an array or a tuple.
        name: of the operation, by default the function's.
        jvp: as for `operation`; `defjvp` sets it later.
        vjp: likewise, `defvjp`.
        elementwise: as for `operation`.

    Returns:
        The operation, or a decorator that makes it.

    Raises:
        ValueError: if another module's operation has that name.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> @extend.decomposition(name="doc_softplus")
        ... def softplus(x):
        ...     return cnp.log1p(cnp.exp(x))
        >>> @softplus.defjvp
        ... def _(primals, tangents):
        ...     (x,), (t,) = primals, tangents
        ...     return softplus(x), t / (1 + cnp.exp(-x))
        >>> cv.make_program(softplus)(0.0).equations[0].primitive
        <primitive doc_softplus>
        >>> float(cv.grad(softplus)(0.0))
        0.5
    """

    def define(fn: Callable[..., Any]) -> Operation:
        return operation(
            name or function_name(fn),
            decomposition=fn,
            jvp=jvp,
            vjp=vjp,
            elementwise=elementwise,
            doc=fn.__doc__,
        )

    return define if fn is None else define(fn)


def program_of(operation: Operation, *operands: Any, **params: Any) -> Program:
    """The decomposition of an operation as a program.

    Args:
        operation: one with a decomposition.
        *operands: arrays, or what has their `shape` and `dtype`.
        **params: static parameters.

    Returns:
        The program, whose inputs are the operands.

    Raises:
        TypeError: for an operation without a decomposition.
    """
    made = operation._running.decomposition
    if made is None:
        raise TypeError(f"operation {operation.name} has no decomposition")
    return made.program([aval_of(x) for x in operands], params)
