"""Covector: differentiable array programs in Python, compiled whole to native code.

```python
import covector as cv
import covector.numpy as cnp
from covector import grad, jit, lax, random, vmap
```
"""

from __future__ import annotations

import importlib as _importlib
from typing import Any as _Any

import covector.core.eager  # noqa: F401  # pyright: ignore[reportUnusedImport]  # eager evaluation
from covector import ad_checkpoint, debug, lax, numpy, tree, tree_util
from covector.core import errors
from covector.core.config import config, debug_infs, debug_nans, disable_jit, enable_x64
from covector.core.device import (
    Device,
    block_until_ready,
    default_backend,
    device_count,
    device_get,
    device_put,
    devices,
    local_devices,
)
from covector.core.dtypes import float0
from covector.core.operand import Operand as Array
from covector.lax.callbacks import io_callback, pure_callback
from covector.transforms.autodiff import (
    grad,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
from covector.transforms.batching import vmap
from covector.transforms.checkpoint import (
    checkpoint,
    checkpoint_name,
    checkpoint_policies,
    remat,
)
from covector.transforms.custom_gradient import custom_gradient
from covector.transforms.custom_jvp import custom_jvp
from covector.transforms.custom_transpose import custom_transpose
from covector.transforms.custom_vjp import custom_vjp
from covector.transforms.custom_vmap import custom_vmap
from covector.transforms.jacobian import hessian, jacfwd, jacrev
from covector.transforms.jit import eval_shape, jit
from covector.transforms.programs import make_program
from covector.transforms.stages import ShapeDtypeStruct
from covector.transforms.staging import (
    closure_convert,
    ensure_compile_time_eval,
    named_call,
    named_scope,
    typeof,
)

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "Device",
    "ShapeDtypeStruct",
    "ad_checkpoint",
    "block_until_ready",
    "checkpoint",
    "checkpoint_name",
    "checkpoint_policies",
    "closure_convert",
    "config",
    "custom_gradient",
    "custom_jvp",
    "custom_transpose",
    "custom_vjp",
    "custom_vmap",
    "debug",
    "debug_infs",
    "debug_nans",
    "default_backend",
    "device_count",
    "device_get",
    "device_put",
    "devices",
    "disable_jit",
    "enable_x64",
    "ensure_compile_time_eval",
    "errors",
    "eval_shape",
    "float0",
    "grad",
    "hessian",
    "io_callback",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jit",
    "jvp",
    "lax",
    "linear_transpose",
    "linearize",
    "local_devices",
    "make_jaxpr",
    "make_program",
    "named_call",
    "named_scope",
    "numpy",
    "pure_callback",
    "remat",
    "tree",
    "tree_util",
    "typeof",
    "value_and_grad",
    "vjp",
    "vmap",
]

jacobian = jacrev
make_jaxpr = make_program

_SUBMODULES = (
    "custom_batching",
    "custom_derivatives",
    "export",
    "extend",
    "inspect",
    "nn",
    "random",
    "scipy",
)


def __getattr__(name: str) -> _Any:
    """Imports what is not needed at once when it is first used: `covector.random` and others."""
    if name in _SUBMODULES:
        try:
            return _importlib.import_module(f"covector.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"covector.{name}":
                raise
    raise AttributeError(f"module 'covector' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
