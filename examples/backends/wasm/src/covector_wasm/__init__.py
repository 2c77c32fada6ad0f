"""A backend for Covector that writes WebAssembly: `jit(f, backend="wasm")`.

`covector_wasm.backend` is where to begin to read.
"""

from covector_wasm.backend import CAPABILITIES, WasmBackend, WasmExecutable

__all__ = ["CAPABILITIES", "WasmBackend", "WasmExecutable"]
