"""Devices: where arrays are. Covector's are all in the memory of the one processor there is."""

from __future__ import annotations

from typing import Any

from covector.core import pytree
from covector.core.array import Array, as_array
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import Tracer


class Device:
    """The processor.

    Attributes:
        platform: "cpu".
        device_kind: likewise.
        id: 0.
        process_index: 0.
    """

    __slots__ = ()

    platform = "cpu"
    device_kind = "cpu"
    id = 0
    process_index = 0

    def __repr__(self) -> str:
        return "CpuDevice(id=0)"


_CPU = Device()


def devices(backend: str | None = None) -> list[Device]:
    """The devices there are.

    Args:
        backend: "cpu" or `None`.

    Raises:
        RuntimeError: for another backend.

    Example:
        >>> import covector as cv
        >>> cv.devices()
        [CpuDevice(id=0)]
    """
    if backend not in (None, "cpu"):
        raise RuntimeError(f"there are no devices of platform {backend!r}, only of 'cpu'")
    return [_CPU]


def local_devices(process_index: int | None = None, backend: str | None = None) -> list[Device]:
    """The devices of this process: all of them.

    Args:
        process_index: 0 or `None`.
        backend: "cpu" or `None`.

    Raises:
        ValueError: for another process.
        RuntimeError: for another backend.
    """
    if process_index not in (None, 0):
        raise ValueError(f"there is no process {process_index}, only process 0")
    return devices(backend)


def device_count(backend: str | None = None) -> int:
    """How many devices there are.

    Args:
        backend: "cpu" or `None`.
    """
    return len(devices(backend))


def default_backend() -> str:
    """The platform of the devices that are used: "cpu".

    Example:
        >>> import covector as cv
        >>> cv.default_backend()
        'cpu'
    """
    return _CPU.platform


def check_placement(
    device: Any, in_shardings: Any, out_shardings: Any, compiler_options: Any
) -> None:
    """Raises a `ValueError` for options of `jit` about devices and about XLA."""
    given = {
        "device": None if isinstance(device, Device) else device,
        "in_shardings": in_shardings,
        "out_shardings": out_shardings,
        "compiler_options": compiler_options or None,
    }
    fixes = {"device": "give one of covector.devices()", "compiler_options": "use effort=0 to 3"}
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                compose(
                    f"jit: {name} is not supported, there is one device and no XLA",
                    found=f"{name}={value!r}"[:120],
                    fix=fixes.get(name, "leave it out"),
                    line=here(),
                )
            )


def device_put(
    x: Any,
    device: Any = None,
    *,
    src: Any = None,
    donate: bool = False,
    may_alias: bool | None = None,
) -> Any:
    """Arrays and numbers as Covector's arrays.

    Args:
        x: a pytree of arrays and numbers.
        device: `None` or one of `devices()`.
        src: likewise.
        donate: must be false: nothing moves.
        may_alias: whether the result may share memory with `x`; it does exactly if `x` is a
            Covector array, which nobody can write to.

    Returns:
        The pytree with arrays for leaves.

    Raises:
        ValueError: for other devices, a `donate` or a `may_alias=False` that would be ignored.

    Example:
        >>> import numpy as np
        >>> import covector as cv
        >>> cv.device_put({"a": np.arange(3)})
        {'a': Array([0, 1, 2], dtype=int32)}
    """
    for place in (device, src):
        if place is not None and not isinstance(place, Device):
            raise ValueError(
                compose(
                    "device_put: there is one device",
                    found=repr(place)[:80],
                    fix="leave it out, or give one of covector.devices()",
                    line=here(),
                )
            )
    if donate or may_alias is False:
        raise ValueError(
            compose(
                "device_put copies and frees nothing of a Covector array",
                found=f"donate={donate}, may_alias={may_alias}",
                fix="leave them out; x.copy() makes a copy, x.delete() frees an array",
                line=here(),
            )
        )

    def put(leaf: Any) -> Any:
        return leaf if isinstance(leaf, Tracer) else as_array(leaf)

    return pytree.map(put, x)


def device_get(x: Any) -> Any:
    """Covector's arrays as NumPy arrays.

    Args:
        x: a pytree; leaves that are no Covector arrays stay as they are.

    Returns:
        The pytree with NumPy arrays.

    Raises:
        TracerArrayConversionError: if a leaf is a traced value.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> cv.device_get((cnp.arange(2), 1))
        (array([0, 1], dtype=int32), 1)
    """

    def get(leaf: Any) -> Any:
        return leaf.__array__() if isinstance(leaf, (Array, Tracer)) else leaf

    return pytree.map(get, x)


def block_until_ready(x: Any) -> Any:
    """The argument itself: what Covector computes is there when the call returns.

    Args:
        x: a pytree.

    Returns:
        The same pytree; leaves that have a method `block_until_ready` have been asked to wait.
    """
    for leaf in pytree.leaves(x):
        wait = getattr(leaf, "block_until_ready", None)
        if wait is not None:
            wait()
    return x
