"""Linear algebra, as in `jax.numpy.linalg`: on the last two axes; axes before them are a batch."""

from __future__ import annotations

from covector.numpy.linalg.decompositions import *  # noqa: F403
from covector.numpy.linalg.determinants import *  # noqa: F403
from covector.numpy.linalg.norms import *  # noqa: F403
from covector.numpy.linalg.products import *  # noqa: F403
from covector.numpy.linalg.systems import *  # noqa: F403
