"""Special functions: those of `jax.scipy.special`.

Integers are promoted to floats. Names and meanings are SciPy's.
"""

from __future__ import annotations

from covector.scipy.entropies import *  # noqa: F403
from covector.scipy.gammas import *  # noqa: F403
from covector.scipy.integrals import *  # noqa: F403
