import pytest

from covector.extend.backends import backend_names, register_backend


@pytest.fixture(scope="session", autouse=True)
def _backend() -> None:
    """Also where the package is on the path, but not installed."""
    if "wasm" not in backend_names():
        register_backend("wasm", "covector_wasm:WasmBackend")
