"""What the tests of the native runtime share: a registered array class and ways to make entries."""

import ctypes
import gc
import sys

import numpy as np
import pytest

from covector import _native


class Array(_native.ArrayBase):
    """The class that the tests register."""

    __slots__ = ()


class Context(ctypes.Structure):
    """The fields of cv_context which generated code may read."""


POINTERS = ctypes.POINTER(ctypes.c_void_p)
CONTEXT = ctypes.POINTER(Context)
ALLOC = ctypes.PYFUNCTYPE(ctypes.c_void_p, CONTEXT, ctypes.c_int64, ctypes.c_int32)
CALLBACK = (ctypes.c_int32, CONTEXT, ctypes.c_int32, POINTERS, POINTERS)
POLL = (ctypes.c_int32, CONTEXT)
ENTRY = ctypes.PYFUNCTYPE(
    ctypes.c_int32, ctypes.POINTER(ctypes.c_int64), POINTERS, POINTERS, CONTEXT
)
Context._fields_ = [
    ("alloc", ALLOC),
    ("cancel", ctypes.c_int32),
    ("error", ctypes.c_int32),
    ("workspace", ctypes.c_void_p),
    ("constants", POINTERS),
    ("callback", ctypes.c_void_p),
    ("poll", ctypes.c_void_p),
]


def runtime_function(address, signature, released):
    """A function of the runtime as an entry written in Python may call it.

    ctypes takes the interpreter lock for such an entry. The runtime must find it as it believes it
    to be: released if the executable releases it, held otherwise.
    """
    make = ctypes.CFUNCTYPE if released else ctypes.PYFUNCTYPE
    return make(*signature)(address)


def view(pointer, shape, dtype):
    """An ndarray over the memory at an address."""
    count = int(np.prod(shape, dtype=int))
    size = count * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * max(size, 1)).from_address(pointer)
    return np.frombuffer(memory, dtype, count).reshape(shape)


class Entries:
    """Makes entries out of Python functions and of LLVM text."""

    def __init__(self):
        self.keep = []
        self.jit = None
        self.count = 0

    view = staticmethod(view)

    @staticmethod
    def callback(ctx, index, args, results, released=False):
        """Calls ctx->callback."""
        function = runtime_function(ctx.contents.callback, CALLBACK, released)
        return function(ctx, index, args, results)

    @staticmethod
    def poll(ctx, released=False):
        """Calls ctx->poll."""
        return runtime_function(ctx.contents.poll, POLL, released)(ctx)

    def python(self, function):
        """The address of an entry which runs `function(dims, args, results, ctx)`."""
        entry = ENTRY(function)
        self.keep.append(entry)
        return ctypes.cast(entry, ctypes.c_void_p).value

    def llvm(self, text, imports=()):
        """The address of @entry of an LLVM module."""
        llvm = pytest.importorskip("llvmlite.binding")
        if self.jit is None:
            llvm.initialize_native_target()
            llvm.initialize_native_asmprinter()
            self.jit = llvm.create_lljit_compiler()
        builder = llvm.JITLibraryBuilder().add_ir(text).export_symbol("entry")
        symbols = _native.symbols()
        for name in imports:
            builder.import_symbol(name, symbols[name])
        self.count += 1
        library = builder.link(self.jit, f"library{self.count}")
        self.keep.append(library)
        return library["entry"]


@pytest.fixture(autouse=True)
def array_class():
    """Registers `Array` for the time of a test, with neither trace nor hooks."""
    previous = _native.register_array_class(Array)
    trace = _native.set_trace(None)
    yield Array
    _native.set_trace(trace)
    _native.register_array_class(previous)


@pytest.fixture(scope="session")
def entries():
    """A maker of entries."""
    return Entries()


@pytest.fixture
def leaked_blocks():
    """Counts the memory blocks that 200 rounds of work leave behind.

    The interpreter and NumPy fill caches at times: a leak is what every series of rounds adds.
    """

    def measure(work):
        growths = []
        for _ in range(5):
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(200):
                work()
            gc.collect()
            growths.append(sys.getallocatedblocks() - before)
        return min(growths)

    return measure


@pytest.fixture
def hook():
    """Registers operator hooks and puts the previous ones back."""
    previous = {}

    def register(name, function):
        replaced = _native.register_operator_hook(name, function)
        previous.setdefault(name, replaced)

    yield register
    for name, function in previous.items():
        _native.register_operator_hook(name, function)
