"""Covector: differentiable array programs in Python, compiled whole to native code.

```python
import covector as cv
import covector.numpy as cnp
from covector import grad, jit, lax, random, vmap
```
"""

from __future__ import annotations

import covector.core.eager  # noqa: F401  # installs eager evaluation
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
from covector.transforms.jit import ShapeDtypeStruct, eval_shape, jit, make_program

__version__ = "0.1.0.dev0"

__all__ = [
    "Array",
    "ShapeDtypeStruct",
    "config",
    "debug_nans",
    "disable_jit",
    "enable_x64",
    "eval_shape",
    "grad",
    "jit",
    "jvp",
    "linear_transpose",
    "linearize",
    "make_program",
    "value_and_grad",
    "vjp",
    "vmap",
]
