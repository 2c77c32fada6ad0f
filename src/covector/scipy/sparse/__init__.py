"""Functions of `jax.scipy.sparse`: `from covector.scipy.sparse import linalg`."""

from __future__ import annotations

from covector.scipy.sparse import linalg

__all__ = ["linalg"]
