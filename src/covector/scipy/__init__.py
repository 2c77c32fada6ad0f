"""Functions of `jax.scipy`: import the modules, as in `from covector.scipy import special`."""

from __future__ import annotations

import importlib as _importlib
from typing import Any as _Any


def __getattr__(name: str) -> _Any:
    """Imports a module when it is first used."""
    if not name.startswith("_"):
        try:
            return _importlib.import_module(f"covector.scipy.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"covector.scipy.{name}":
                raise
    raise AttributeError(f"module 'covector.scipy' has no attribute {name!r}")
