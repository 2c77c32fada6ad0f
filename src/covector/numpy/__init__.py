"""NumPy's functions on Covector arrays, with JAX's semantics."""

from __future__ import annotations

import numpy as _np

from covector.core.array import Array as _Array
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

_methods.install()
_operators.install()

ndarray = _Array
pi = _np.pi
e = _np.e
inf = _np.inf
nan = _np.nan
newaxis = None
euler_gamma = _np.euler_gamma
