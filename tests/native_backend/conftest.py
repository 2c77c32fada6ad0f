"""Runs loop IR functions through the native engine, called by ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from covector.backends.native import engine
from covector.backends.native.emit_externals import EXTERNALS
from covector.loopir.builder import Builder
from covector.loopir.ir import ARGUMENT, RESULT, WORKSPACE, Function
from covector.loopir.verifier import verify

ENTRY = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)
ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_void_p),
)


def place_workspace(function: Function) -> None:
    """Gives each workspace buffer without an offset a place of its own."""
    for buffer in function.buffers:
        if buffer.space == WORKSPACE and buffer.offset is None:
            buffer.offset = -(-function.workspace_bytes // 64) * 64
            function.workspace_bytes = buffer.offset + buffer.nbytes


class Context(ctypes.Structure):
    """The public part of cv_context, with room for what is private."""

    _fields_ = (
        ("alloc", ALLOC),
        ("cancel", ctypes.c_int32),
        ("error", ctypes.c_int32),
        ("workspace", ctypes.c_void_p),
        ("constants", ctypes.c_void_p),
        ("callback", CALLBACK),
        ("poll", ctypes.c_void_p),
        ("private", ctypes.c_byte * 512),
    )


class Compiled:
    """A compiled function, called with arrays."""

    def __init__(self, function: Function, effort: int = 2, cpu: str | None = None) -> None:
        place_workspace(function)
        verify(function, EXTERNALS)
        self.function = function
        self.code = engine.compile_function(function, effort, cpu)
        verify(function, EXTERNALS)
        self.entry = ENTRY(self.code.address)
        self.allocated: list[Any] = []

    def __call__(
        self,
        *args: Any,
        dims: Sequence[int] = (),
        constants: Sequence[np.ndarray] = (),
        callback: Callable[..., int] | None = None,
        cancel: int = 0,
        memory: bool = True,
    ) -> list[np.ndarray]:
        status, results = self.run(args, dims, constants, callback, cancel, memory)
        assert status == 0
        return results

    def run(
        self,
        args: Sequence[Any],
        dims: Sequence[int] = (),
        constants: Sequence[np.ndarray] = (),
        callback: Callable[..., int] | None = None,
        cancel: int = 0,
        memory: bool = True,
    ) -> tuple[int, list[np.ndarray]]:
        """The status and the results; guards around each result must stay as they are."""
        buffers = self.function.buffers
        given = [b for b in buffers if b.space == ARGUMENT]
        arrays = [np.ascontiguousarray(a, b.dtype) for a, b in zip(args, given, strict=True)]
        guarded = [
            _Guarded([e if isinstance(e, int) else dims[e.attr] for e in b.shape], b.dtype)
            for b in buffers
            if b.space == RESULT
        ]
        workspace = np.full(self.function.workspace_bytes + 64, 0xA5, np.uint8)
        context = Context()
        context.workspace = -(-workspace.ctypes.data // 64) * 64
        context.cancel = cancel
        table = _pointers(constants)
        context.constants = ctypes.cast(table, ctypes.c_void_p)
        context.alloc = ALLOC(self.allocate if memory else lambda *_: 0)
        context.callback = CALLBACK(callback or (lambda *_: -2))
        status = self.entry(
            (ctypes.c_int64 * max(1, len(dims)))(*dims),
            _pointers(arrays),
            _pointers([g.array for g in guarded]),
            ctypes.byref(context),
        )
        for each in guarded:
            each.check()
        return status, [g.array for g in guarded]

    def allocate(self, context: int, nbytes: int, site: int) -> int:
        self.allocated.append(np.zeros(nbytes + 1, np.uint8))
        return self.allocated[-1].ctypes.data


class _Guarded:
    """An uninitialised array between bytes that nobody may write."""

    def __init__(self, shape: Sequence[int], dtype: np.dtype) -> None:
        size = int(np.prod(shape)) * dtype.itemsize
        self.memory = np.full(size + 256, 0x5A, np.uint8)
        self.size = size
        self.array = self.memory[128 : 128 + size].view(dtype).reshape(shape)

    def check(self) -> None:
        assert (self.memory[:128] == 0x5A).all()
        assert (self.memory[128 + self.size :] == 0x5A).all()


def _pointers(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])


@pytest.fixture(scope="session")
def compiled() -> Callable[..., Compiled]:
    """Compiles a function: `compiled(function, effort=2, cpu=None)`."""
    return Compiled


@pytest.fixture(scope="session")
def elementwise() -> Callable[..., Compiled]:
    """Compiles one operation over arrays, in lanes or one element after the other."""

    def make(
        op: Callable[..., Any],
        dtypes: Sequence[Any],
        out: Any,
        n: int,
        lanes: bool,
        cpu: str | None = None,
    ) -> Compiled:
        b = Builder("entry")
        inputs = [b.argument(np.dtype(d), (n,)) for d in dtypes]
        output = b.result(np.dtype(out), (n,))

        def body(i: Any) -> None:
            b.store(output, (i,), op(b, *(b.load(x, i) for x in inputs)))

        def step(i: Any) -> list[Any]:
            body(i)
            return [b.op("add", i, 1)]

        if lanes:
            b.loop(0, n, body)
        else:
            b.while_(lambda i: b.op("lt", i, n), step, [b.index(0)])
        return Compiled(b.finish(), cpu=cpu)

    return make
