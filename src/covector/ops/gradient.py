"""`stop_gradient`: a value without its derivative."""

from __future__ import annotations

from typing import Any

from covector.ops.factory import elementwise


def _same(x: Any) -> Any:
    return x


stop_gradient = elementwise(
    "stop_gradient",
    evaluate=_same,
    jvp=None,
    scalar=lambda builder, x: x,
    kinds=None,
    cost=0.0,
)
stop_gradient.tags |= {"same"}
