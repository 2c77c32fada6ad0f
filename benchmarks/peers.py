"""The namespaces that workloads are written against, one for each peer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


def leaves(results: Any) -> list[Any]:
    """The arrays in nested tuples and lists, as NumPy's."""
    if isinstance(results, tuple | list):
        return [leaf for part in results for leaf in leaves(part)]
    return [np.asarray(results)]


def _with_defaults(**names: Any) -> Any:
    defaults = {"put": np.asarray, "wait": lambda x: x, "leaves": leaves, "forget": None}
    return SimpleNamespace(**{**defaults, **names})


def covector() -> Any:
    """This project."""
    import covector as cv
    import covector.numpy as cnp
    from covector import lax, nn, random
    from covector.core.backend import clear_cache

    return _with_defaults(
        np=cnp,
        lax=lax,
        nn=nn,
        random=random,
        jit=cv.jit,
        grad=cv.grad,
        value_and_grad=cv.value_and_grad,
        vmap=cv.vmap,
        checkpoint=cv.checkpoint,
        put=cnp.asarray,
        forget=clear_cache,
        version=cv.__version__,
        threads=cv.config.num_threads or "as many as cores",
    )


def jax() -> Any:
    """JAX's own CPU backend."""
    import jax

    if tuple(int(part) for part in jax.__version__.split(".")[:2]) < (0, 12):
        raise ImportError(f"JAX {jax.__version__} is not compared with; 0.12 or newer is")
    return any_jax()


def any_jax() -> Any:
    """JAX of any version: what it computes is right, however long that takes."""
    import jax
    import jax.numpy as jnp

    return _with_defaults(
        np=jnp,
        lax=jax.lax,
        nn=jax.nn,
        random=jax.random,
        jit=jax.jit,
        grad=jax.grad,
        value_and_grad=jax.value_and_grad,
        vmap=jax.vmap,
        checkpoint=jax.checkpoint,
        put=jnp.asarray,
        wait=jax.block_until_ready,
        version=jax.__version__,
        threads="its default",
    )


def diffrax() -> Any:
    """Diffrax, on JAX."""
    import diffrax

    api = jax()
    api.diffrax = diffrax
    api.version = diffrax.__version__
    return api


def torch() -> Any:
    """PyTorch, with `torch.compile`."""
    torch = importlib.import_module("torch")
    torch.set_grad_enabled(False)
    return _with_defaults(
        torch=torch,
        compile=torch.compile,
        put=lambda a: torch.from_numpy(np.array(a)),
        version=torch.__version__,
        threads=torch.get_num_threads(),
    )


def numba() -> Any:
    """Numba: loops in Python, compiled."""
    numba = importlib.import_module("numba")
    return _with_defaults(
        numba=numba,
        put=lambda a: a,
        version=numba.__version__,
        threads=numba.get_num_threads(),
    )


def numpy() -> Any:
    """NumPy."""
    return _with_defaults(np=np, version=np.__version__, threads=1)


PEERS: dict[str, Callable[[], Any]] = {
    "covector": covector,
    "jax": jax,
    "diffrax": diffrax,
    "torch": torch,
    "numba": numba,
    "numpy": numpy,
}
