"""NumPy's functions on Covector arrays, with JAX's semantics."""

from __future__ import annotations

import numpy as _np

from covector.core import dtypes as _dtypes
from covector.core.array import Array as ndarray  # noqa: N813  # NumPy's name
from covector.numpy import methods as _methods  # noqa: F401  # installs methods
from covector.numpy import operators as _operators  # noqa: F401  # installs operators
from covector.numpy.creation import *  # noqa: F403
from covector.numpy.elementwise import *  # noqa: F403
from covector.numpy.indexing import *  # noqa: F403
from covector.numpy.manipulation import *  # noqa: F403
from covector.numpy.products import *  # noqa: F403
from covector.numpy.reductions import *  # noqa: F403
from covector.numpy.rounding import *  # noqa: F403

pi = _np.pi
e = _np.e
inf = _np.inf
nan = _np.nan
newaxis = None
euler_gamma = _np.euler_gamma
