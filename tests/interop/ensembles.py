"""Ensembles that people write in JAX: what they do for one member is batched by `jax.vmap`.

`export_ensembles.py` writes those of `ensembles_dynamics.py` and `ensembles_inference.py` to files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

L = 70
"""Lanes: not a multiple of any vector's width."""
CASES: dict[str, Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]] = {}

wrap = jax.random.wrap_key_data


def case(make: Any) -> Any:
    """Registers a function that makes a program and its arguments, under its name."""
    CASES[make.__name__] = make
    return make


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def uniform(low: float, high: float, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def keys(count: int = L, seed: int = 0) -> np.ndarray:
    return np.asarray(jax.random.key_data(jax.random.split(jax.random.key(seed), count)))
