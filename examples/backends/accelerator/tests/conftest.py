import pytest

from covector.extend.backends import backend_names, register_backend
from covector_accelerator import Accelerator


@pytest.fixture(scope="session", autouse=True)
def _backends() -> None:
    """Also where the package is on the path, but not installed."""
    if "accelerator" not in backend_names():
        register_backend("accelerator", Accelerator)
    # One that takes everything it can, however small.
    register_backend("eager", lambda: Accelerator(name="eager", least_work=1))
