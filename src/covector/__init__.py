"""Covector: differentiable array programs in Python, compiled whole to native code.

```python
import covector as cv
import covector.numpy as cnp
from covector import grad, jit, lax, random, vmap
```
"""

from __future__ import annotations

import covector.core.eager  # pyright: ignore[reportUnusedImport]  # installs eager evaluation
import covector.numpy  # noqa: F401  # pyright: ignore[reportUnusedImport]  # installs operators
from covector import tree, tree_util
from covector.core import errors
from covector.core.array import Array
from covector.core.config import config, debug_nans, disable_jit, enable_x64
from covector.transforms.autodiff import (
    grad,
    jvp,
    linear_transpose,
    linearize,
    value_and_grad,
    vjp,
)
from covector.transforms.batching import vmap
from covector.transforms.custom_jvp import custom_jvp
from covector.transforms.custom_vjp import custom_vjp
from covector.transforms.jacobian import hessian, jacfwd, jacrev
from covector.transforms.jit import ShapeDtypeStruct, eval_shape, jit, make_program

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "ShapeDtypeStruct",
    "config",
    "custom_jvp",
    "custom_vjp",
    "debug_nans",
    "disable_jit",
    "enable_x64",
    "errors",
    "eval_shape",
    "grad",
    "hessian",
    "jacfwd",
    "jacrev",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_program",
    "tree",
    "tree_util",
    "value_and_grad",
    "vjp",
    "vmap",
]
