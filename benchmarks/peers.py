"""The namespaces that workloads are written against, one for each peer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def covector() -> Any:
    """This project."""
    import numpy as np

    import covector as cv
    import covector.numpy as cnp
    from covector import lax, random

    return SimpleNamespace(
        np=cnp,
        lax=lax,
        random=random,
        jit=cv.jit,
        grad=cv.grad,
        vmap=cv.vmap,
        checkpoint=cv.checkpoint,
        wait=lambda x: x,
        to_numpy=lambda x: np.asarray(x),
        version=cv.__version__,
    )


def jax() -> Any:
    """JAX's own CPU backend."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    return SimpleNamespace(
        np=jnp,
        lax=jax.lax,
        random=jax.random,
        jit=jax.jit,
        grad=jax.grad,
        vmap=jax.vmap,
        checkpoint=jax.checkpoint,
        wait=jax.block_until_ready,
        to_numpy=lambda x: np.asarray(x),
        version=jax.__version__,
    )


def numpy() -> Any:
    """NumPy, for eager rows."""
    import numpy as np

    return SimpleNamespace(
        np=np, wait=lambda x: x, to_numpy=lambda x: np.asarray(x), version=np.__version__
    )


PEERS = {"covector": covector, "jax": jax, "numpy": numpy}
