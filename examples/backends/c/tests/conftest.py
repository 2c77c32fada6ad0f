import pytest

from covector.extend.backends import backend_names, register_backend


@pytest.fixture(scope="session", autouse=True)
def _backend() -> None:
    """Also where the package is on the path, but not installed."""
    if "c" not in backend_names():
        register_backend("c", "covector_c:CBackend")
