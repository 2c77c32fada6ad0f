"""Building loop IR functions: control flow and calls, on top of expressions and storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from covector.loopir.contraction import remove_unused
from covector.loopir.ir import (
    INDEX,
    LOOP_KINDS,
    PARALLEL,
    READ_ONLY,
    SERIAL,
    SIMD,
    Block,
    Buffer,
    Call,
    CallArgument,
    Callback,
    CallInLanes,
    Check,
    ComplexValue,
    DType,
    For,
    Function,
    If,
    LoopIRError,
    Pointer,
    Poll,
    Scalar,
    Value,
    While,
)
from covector.loopir.storage import Storage

Values = Sequence[Scalar]


class Builder(Storage):
    """Builds one function.

    Args:
        name: symbol of the function.

    Example:
        >>> import numpy as np
        >>> b = Builder("double")
        >>> x = b.argument(np.dtype("f4"), (8,))
        >>> y = b.result(np.dtype("f4"), (8,))
        >>> b.loop(0, 8, lambda i: b.store(y, (i,), b.op("mul", b.load(x, i), 2.0)))
        []
        >>> function = b.finish()
    """

    __slots__ = ("apart", "shared")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.shared = False
        """Inside a parallel loop: loops there need not be made so that threads can share them."""
        self.apart: int | None = None
        """Depth of the block that computes one lane's long arrays, if lanes run one by one."""

    # Control flow

    def loop(
        self,
        lower: Any,
        upper: Any,
        body: Callable[..., Values | None],
        init: Values = (),
        *,
        step: int = 1,
        kind: str = SERIAL,
        width: int = 0,
        independent: bool = False,
    ) -> list[Any]:
        """A counted loop.

        Args:
            lower: first index, an int or an index value.
            upper: bound, exclusive.
            body: `body(i, *carries)` gives the next carries, or `None` without any.
            init: the carries on entry, complex ones too.
            step: positive.
            kind: "serial", "simd" or "parallel", see `For`.
            width: iterations in one vector step of a simd loop; 0 leaves it to the target.
            independent: whether iterations touch no common memory, so that threads may share it.

        Returns:
            The carries after the last iteration.

        Raises:
            LoopIRError: if the body's carries differ from `init` in number or dtype.
        """
        if kind not in LOOP_KINDS or step < 1:
            raise LoopIRError(f"no loop of kind {kind!r} and step {step}")
        if kind == PARALLEL and (init or step != 1):
            raise LoopIRError("a parallel loop has steps of 1 and no carries")
        if self.lane is not None:
            kind = SERIAL  # one loop runs in lanes
        lower, upper = self._as_index(lower), self._as_index(upper)
        if lower.op == "const" and upper.op == "const":
            if upper.attr <= lower.attr:
                return list(init)
            if upper.attr - lower.attr <= step:
                return _as_list(body(lower, *init), init)
        inits = _flatten(init)
        self._enter(Block(self.depth + 1))
        low, high = self.bounds(lower)[0], self.bounds(upper)[1] - 1
        index = self._inner("index", (low, high), INDEX)
        self._bounds[index] = (low, high)
        before, self.shared = self.shared, self.shared or kind == PARALLEL
        if upper.op != "const":
            self._upper[index] = (upper, *(upper.args if upper.op == "min" else ()))
        params = [self._inner("parameter", None, v.dtype) for v in inits]
        block = self.block
        loop = For(lower, upper, step, kind, width, index, inits, params, block)
        loop.independent = independent and not inits
        loop.yields = _flatten(_as_list(body(index, *_unflatten(params, init)), init))
        self._leave()
        self.shared = before
        return self._close(loop, init)

    def in_blocks(self, block: Block, position: int, size: int) -> None:
        """Puts a parallel loop over blocks of iterations around a loop that was built.

        Args:
            block: where the loop is.
            position: of the loop: between constants, its iterations independent and without
                carries.
            size: iterations of one block.
        """
        loop: For = block.items[position]
        trips = loop.trips
        assert trips is not None
        depth = block.depth  # as far as the loop inside is concerned, nothing has changed

        def value(op: str, *args: Value, attr: Any = None) -> Value:
            return Value(op, args, attr, INDEX, self._number(), depth)

        count = -(-trips // size)
        number = value("index", attr=(0, count - 1))
        scaled = value("mul", number, self.index(size))
        low = value("add", scaled, loop.lower) if loop.lower.attr else scaled
        high = value("add", low, self.index(size))
        outer = For(
            self.index(0), self.index(count), 1, PARALLEL, 0, number, [], [], Block(depth + 1)
        )
        outer.body.items += [scaled, high] if low is scaled else [scaled, low, high]
        if trips % size:
            high = value("min", high, loop.upper)
            outer.body.items.append(high)
        loop.lower, loop.upper = low, high
        outer.body.items.append(loop)
        block.items[position] = outer

    def while_(
        self,
        condition: Callable[..., Value],
        body: Callable[..., Values | None],
        init: Values,
    ) -> list[Any]:
        """A loop that runs as long as a condition on its carries holds.

        Args:
            condition: `condition(*carries)` gives a bool value.
            body: `body(*carries)` gives the next carries.
            init: the carries on entry.

        Returns:
            The carries for which the condition failed.

        Raises:
            LoopIRError: if the body's carries differ from `init` in number or dtype.
        """
        inits = _flatten(init)
        self._enter(Block(self.depth + 1))
        params = [self._inner("parameter", None, v.dtype) for v in inits]
        carries = _unflatten(params, init)
        header = self.block
        predicate = condition(*carries)
        self._enter(Block(self.depth + 1))
        self._placement[-2] = self.depth  # the header is no place for what the body alone needs
        loop = While(inits, params, header, predicate, self.block)
        loop.yields = _flatten(_as_list(body(*carries), init))
        self._leave()
        self._leave()
        return self._close(loop, init)

    def if_(
        self,
        predicate: Value,
        then: Callable[[], Values | None],
        otherwise: Callable[[], Values | None],
    ) -> list[Any]:
        """A branch.

        Args:
            predicate: a bool value.
            then: gives the results where it holds; may store.
            otherwise: gives results of the same dtypes where it does not.

        Returns:
            The results of the side taken.

        Raises:
            LoopIRError: if the sides differ in number or dtypes of results.
        """
        if predicate.op == "const":
            return list((then if predicate.attr else otherwise)() or ())
        blocks: list[Block] = []
        sides: list[list[Any]] = []
        placement = self._placement
        for side in (then, otherwise):
            self._enter(Block(self.depth + 1))
            self._placement = [self.depth] * (self.depth + 1)
            blocks.append(self.block)
            sides.append(list(side() or ()))
            self._leave()
            self._placement = placement
        branch = If(predicate, blocks[0], blocks[1])
        branch.then_values = _flatten(sides[0])
        branch.else_values = _flatten(_as_list(sides[1], sides[0]))
        return self._close(branch, sides[0])

    def _close(self, statement: For | While | If, like: Values) -> list[Any]:
        dtypes = [v.dtype for v in _flatten(like)]
        values = [self._inner("result", None, dtype) for dtype in dtypes]
        statement.results = values
        self.block.items.append(statement)
        return _unflatten(values, like)

    def _enter(self, block: Block) -> None:
        self.depth += 1
        self.block = block
        if self.origin is not None:
            block.origins[self.origin] = None
        self._blocks.append(block)
        self._scopes.append([])
        self._placement = [*self._placement, self.depth]

    def _leave(self) -> None:
        memo = self._memo
        for key in self._scopes.pop():
            memo.pop(key, None)
        self._blocks.pop()
        self._placement = self._placement[:-1]
        self.depth -= 1
        self.block = self._blocks[-1]

    # Calls and control

    def call(
        self,
        symbol: str,
        result: DType | None,
        *args: Any,
        leaves: bool = False,
        site: int | None = None,
    ) -> Any:
        """Calls an external function that has effects.

        Args:
            symbol: a name on the backend's list of externals.
            result: dtype of what it returns, or `None`.
            *args: values, buffers (passed as pointers), `(buffer, offset)` pairs, `ir.CONTEXT`, and
                `None` for a null pointer.
            leaves: whether it returns a status, of which non-zero leaves this function.
            site: the error with which to leave; `None` leaves with the status itself.

        Returns:
            The result, or `None`.
        """
        self._check_no_lane(symbol)
        out = None if result is None else self._inner("result", None, result)
        passed = [self._call_argument(arg) for arg in args]
        leaves = leaves or site is not None
        self.block.items.append(Call(symbol, passed, out, leaves, site, self.origin))
        return out

    def _call_argument(self, arg: Any) -> CallArgument:
        if isinstance(arg, Buffer):
            buffer, offset = arg, self.index(0)
        elif isinstance(arg, tuple):
            buffer, offset = cast("tuple[Buffer, Any]", arg)
        else:
            return arg
        if buffer.space not in READ_ONLY:
            self.touch(buffer)
        if buffer.element is not buffer.dtype:
            offset = self.op("mul", self._as_index(offset), self.index(2))
        return Pointer(buffer, self._as_index(offset))

    def callback(self, number: int, args: Sequence[Buffer], outputs: Sequence[Buffer]) -> None:
        """Calls a Python function of the executable.

        Args:
            number: which function.
            args: buffers it reads.
            outputs: buffers it writes, none of them read-only.
        """
        self._check_no_lane("a Python function")
        for buffer in outputs:
            if buffer.space in READ_ONLY:
                raise LoopIRError(f"callback {number} writes to the read-only {buffer!r}")
            self.touch(buffer)
        self.block.items.append(Callback(number, args, outputs, self.origin))

    def _check_no_lane(self, what: str) -> None:
        if self.lane is not None:
            raise CallInLanes(f"{what} cannot be called for some lanes of a vector")

    def lanes(
        self,
        count: Any,
        together: int,
        body: Callable[[Any], None],
        group: Any = 1,
        around: Callable[[Any, Callable[[], None]], None] | None = None,
    ) -> None:
        """A parallel loop over independent lanes, some of them together.

        Args:
            count: how many lanes there are, an int or an index value.
            together: how many of them share the memory of buffers made in the body.
            body: given the number of a lane.
            group: how many times `together` lanes one thread takes one after the other, an int
                or an index value.
            around: given the number of such a group and what runs it; what it does before and
                after is not in lanes.

        Raises:
            CallInLanes: the body calls a function for which there is no vector form.
            LoopIRError: inside another such loop.
        """
        if self.lane is not None:
            raise LoopIRError("a loop over lanes inside another one")

        def chunk(number: Any) -> None:
            first = self.op("mul", self._as_index(number), self.index(together))
            rest = self.op("sub", self._as_index(count), first)
            self.loop(
                0, self.op("min", rest, self.index(together)), partial(lane, first), kind=SIMD
            )

        def lane(first: Value, number: Any) -> None:
            number = self._as_index(number)
            self.lane = number, together
            try:
                body(self.op("add", first, number))
            finally:
                self.lane = None

        chunks = self.quotient(count, together)

        def chunks_of(number: Any) -> None:
            first = self.op("mul", self._as_index(number), self._as_index(group))
            rest = self.op("sub", self._as_index(chunks), first)
            bound = self.op("min", rest, self._as_index(group))

            def each(number: Any) -> None:
                chunk(self.op("add", first, number))

            self.loop(0, bound, each)

        def run(number: Any) -> None:
            if around is None:
                chunks_of(number)
            else:
                around(number, partial(chunks_of, number))

        if type(group) is int and group == 1 and around is None:
            self.loop(0, chunks, chunk, kind=PARALLEL)
        else:
            self.loop(0, self.quotient(chunks, group), run, kind=PARALLEL)

    def quotient(self, count: Any, size: Any) -> Any:
        """How many parts of a size hold a count, both ints or index values."""
        if type(count) is int and type(size) is int:
            return -(-count // size)
        size = self._as_index(size)
        more = self.op("sub", size, self.index(1))
        return self.op("index_div", self.op("add", self._as_index(count), more), size)

    def check(self, ok: Value, site: int) -> None:
        """Leaves the function with an error unless a value is true.

        Args:
            ok: a bool value.
            site: which error; the function returns `site + 1`.
        """
        if ok.op != "const" or not ok.attr:
            self.block.items.append(Check(ok, site))

    def poll(self) -> None:
        """Leaves the function here if the caller has asked for it."""
        self.block.items.append(Poll())

    def finish(self, *returns: Any) -> Function:
        """Ends the function.

        Args:
            *returns: results of a scalar function.

        Returns:
            The function.

        Raises:
            LoopIRError: inside a loop or branch.
        """
        if self.depth:
            raise LoopIRError(f"{self.function.name} ends inside a loop or branch")
        self.function.returns = _flatten(returns)
        self.function.values = self._next
        if self._products:
            remove_unused(self.function, self._products)
        return self.function


def _flatten(values: Values) -> list[Value]:
    flat: list[Value] = []
    for value in values:
        if type(value) is ComplexValue:
            flat += (value.re, value.im)
        else:
            flat.append(value)  # pyright: ignore[reportArgumentType]
    return flat


def _unflatten(flat: Sequence[Value], like: Values) -> list[Any]:
    parts = iter(flat)
    return [
        ComplexValue(next(parts), next(parts), v.dtype) if type(v) is ComplexValue else next(parts)
        for v in like
    ]


def _as_list(values: Values | None, like: Values) -> list[Any]:
    """Checks carries or results against those they replace."""
    found = list(values or ())
    if [v.dtype for v in found] != [v.dtype for v in like]:
        raise LoopIRError(f"expected values like {list(like)!r}, got {found!r}")
    return found
