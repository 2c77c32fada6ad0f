"""`jax.lax`'s functions: control flow, and operations without promotion or broadcasting."""

from __future__ import annotations

from covector.lax.axis_names import *  # noqa: F403
from covector.lax.barriers import *  # noqa: F403
from covector.lax.control_flow import *  # noqa: F403
from covector.lax.convolution import *  # noqa: F403
from covector.lax.elementwise import *  # noqa: F403
from covector.lax.fourier import *  # noqa: F403
from covector.lax.operations import *  # noqa: F403
from covector.lax.parallel import *  # noqa: F403
from covector.lax.reductions import *  # noqa: F403
from covector.lax.solvers import *  # noqa: F403
from covector.lax.windowed import *  # noqa: F403
from covector.ops.windows import GatherDimensionNumbers, GatherScatterMode, ScatterDimensionNumbers

__all__ = ["GatherDimensionNumbers", "GatherScatterMode", "ScatterDimensionNumbers"]
