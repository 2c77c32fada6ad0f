"""What the tests of the native runtime share: a registered array class and ways to make entries."""

import ctypes

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
# Called by entries written in Python, which hold the interpreter lock: ctypes must not release it.
CALLBACK = ctypes.PYFUNCTYPE(ctypes.c_int32, CONTEXT, ctypes.c_int32, POINTERS, POINTERS)
POLL = ctypes.PYFUNCTYPE(ctypes.c_int32, CONTEXT)
ENTRY = ctypes.PYFUNCTYPE(
    ctypes.c_int32, ctypes.POINTER(ctypes.c_int64), POINTERS, POINTERS, CONTEXT
)
Context._fields_ = [
    ("alloc", ALLOC),
    ("cancel", ctypes.c_int32),
    ("error", ctypes.c_int32),
    ("workspace", ctypes.c_void_p),
    ("constants", POINTERS),
    ("callback", CALLBACK),
    ("poll", POLL),
]


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
def hook():
    """Registers operator hooks and puts the previous ones back."""
    previous = {}

    def register(name, function):
        replaced = _native.register_operator_hook(name, function)
        previous.setdefault(name, replaced)

    yield register
    for name, function in previous.items():
        _native.register_operator_hook(name, function)
