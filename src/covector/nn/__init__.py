"""Neural networks: the functions of `jax.nn`, and initialisers."""

from __future__ import annotations

from covector.nn import initializers as initializers
from covector.nn.attention import *  # noqa: F403
from covector.nn.functions import *  # noqa: F403
from covector.nn.normalization import *  # noqa: F403
