"""NumPy's functions on Covector arrays, with JAX's semantics."""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING
from typing import Any as _Any

import numpy as _np

from covector.core.operand import Operand as _Operand
from covector.numpy import methods as _methods
from covector.numpy import operators as _operators
from covector.numpy.calculus import *  # noqa: F403
from covector.numpy.contraction import *  # noqa: F403
from covector.numpy.creation import *  # noqa: F403
from covector.numpy.editing import *  # noqa: F403
from covector.numpy.elementwise import *  # noqa: F403
from covector.numpy.floats import *  # noqa: F403
from covector.numpy.functional import *  # noqa: F403
from covector.numpy.grids import *  # noqa: F403
from covector.numpy.index_functions import *  # noqa: F403
from covector.numpy.interchange import *  # noqa: F403
from covector.numpy.joining import *  # noqa: F403
from covector.numpy.manipulation import *  # noqa: F403
from covector.numpy.nans import *  # noqa: F403
from covector.numpy.padding import *  # noqa: F403
from covector.numpy.polynomials import *  # noqa: F403
from covector.numpy.products import *  # noqa: F403
from covector.numpy.reductions import *  # noqa: F403
from covector.numpy.rounding import *  # noqa: F403
from covector.numpy.sets import *  # noqa: F403
from covector.numpy.sorting import *  # noqa: F403
from covector.numpy.statistics import *  # noqa: F403
from covector.numpy.types import *  # noqa: F403

if TYPE_CHECKING:
    from covector.numpy import fft as fft
    from covector.numpy import linalg as linalg

_methods.install()
_operators.install()

ndarray = _Operand
pi = _np.pi
e = _np.e
inf = _np.inf
nan = _np.nan
newaxis = None
euler_gamma = _np.euler_gamma

_SUBMODULES = ("fft", "linalg")


def __getattr__(name: str) -> _Any:
    """Imports what is not needed at once when it is first used: `fft` and `linalg`."""
    if name in _SUBMODULES:
        return _importlib.import_module(f"covector.numpy.{name}")
    raise AttributeError(f"module 'covector.numpy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})
