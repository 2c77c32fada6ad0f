"""Devices: where arrays are. The processor's memory has them all; other devices may have copies.

A backend may declare `devices`. An array that `device_put` placed on one of them has its elements
in the processor's memory, as every array, and a copy in the device's, which no program there has
to move again. Arrays never change, so that both stay equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from covector.core import dtypes, pytree
from covector.core.array import Array, as_array
from covector.core.backend import backend_names, get_backend
from covector.core.errors import compose
from covector.core.operand import install_methods
from covector.core.source import here
from covector.core.trace import Tracer


class Memory(NamedTuple):
    """A memory of a device.

    Attributes:
        kind: what it is called: "host", "dram", "scratchpad".
        nbytes: how much it holds; `None` if that is not known.
    """

    kind: str
    nbytes: int | None = None


class Device:
    """What has memory for arrays: the processor, or a device that a backend declares.

    A backend's device defines `put` and `get`.

    Args:
        platform: "cpu", or the name of the backend whose device it is.
        id: its number on the platform.
        kind: which model it is, by default its platform.
        memories: those it has; arrays are placed in the first.

    Attributes:
        platform: likewise.
        device_kind: the model.
        id: likewise.
        process_index: 0.
    """

    process_index = 0

    def __init__(
        self,
        platform: str = "cpu",
        id: int = 0,  # noqa: A002  # as JAX has it
        kind: str = "",
        memories: Sequence[Memory] = (Memory("host"),),
    ) -> None:
        self.platform = platform
        self.id = id
        self.device_kind = kind or platform
        self._memories = tuple(memories)

    def addressable_memories(self) -> list[Memory]:
        """The memories it has."""
        return list(self._memories)

    def default_memory(self) -> Memory:
        """The memory that arrays are placed in."""
        return self._memories[0]

    def put(self, data: np.ndarray[Any, Any]) -> Any:
        """Copies an array into the device's memory.

        Args:
            data: contiguous, in native byte order; it may change after the call.

        Returns:
            What stands for the copy: programs of the device are called with it. Its memory is free
            again when nobody refers to it.

        Raises:
            MemoryError: if there is no room.
        """
        return np.array(data)

    def get(self, buffer: Any) -> np.ndarray[Any, Any]:
        """Copies an array out of the device's memory.

        Args:
            buffer: what `put` or a program of the device returned.
        """
        return np.asarray(buffer)

    def __repr__(self) -> str:
        return f"{self.platform.capitalize()}Device(id={self.id})"


_CPU = Device()


class PlacedArray(Array):
    """An array of which a device has a copy; made by `device_put`."""

    __slots__ = ("_buffer", "_device")

    _buffer: Any
    _device: Device

    @property
    def device(self) -> Device:
        """The device that has a copy."""
        return self._device

    def on(self, device: Device) -> Any:
        """The copy in the memory of a device: what `put` returned; `None` if it has none."""
        return self._buffer if device is self._device else None


def placed(x: Array, device: Device) -> PlacedArray:
    """An array with a copy in a device's memory."""
    if dtypes.is_key(x.aval.dtype):
        raise ValueError(
            compose(
                "device_put: keys stay on the processor, which makes their random numbers",
                found=f"{x.aval} for {device!r}",
                fix="place random.key_data(keys), or the numbers",
                line=here(),
            )
        )
    aval = x.aval
    value = np.ascontiguousarray(x._value).reshape(aval.shape)
    found = PlacedArray(value, aval.weak_type, owned=True, aval=aval)
    found._device, found._buffer = device, device.put(value)
    return found


def devices_of(backend: Any) -> list[Device]:
    """The devices that a backend declares.

    Raises:
        TypeError: if they are no devices, or none of its own.
    """
    found: list[Any] = list(getattr(backend, "devices", ()))
    for each in found:
        if not isinstance(each, Device) or each is _CPU:
            raise TypeError(
                compose(
                    f"the backend {backend.name!r} declares its devices",
                    found=repr(each)[:80],
                    fix="let `devices` be a list of covector.extend.backends.Device",
                )
            )
    return found


def devices(backend: str | None = None) -> list[Device]:
    """The devices there are.

    Args:
        backend: "cpu" or `None` for the processor, or the name of a backend that has devices.

    Raises:
        RuntimeError: if there is no such backend, or it has none.

    Example:
        >>> import covector as cv
        >>> cv.devices()
        [CpuDevice(id=0)]
    """
    if backend in (None, "cpu"):
        return [_CPU]
    found = devices_of(get_backend(backend)) if backend in backend_names() else []
    if not found:
        raise RuntimeError(
            f"there are no devices of platform {backend!r}, only of 'cpu' and of backends that "
            "declare some"
        )
    return found


def local_devices(process_index: int | None = None, backend: str | None = None) -> list[Device]:
    """The devices of this process: all of them.

    Args:
        process_index: 0 or `None`.
        backend: as for `devices`.

    Raises:
        ValueError: for another process.
        RuntimeError: if there are none.
    """
    if process_index not in (None, 0):
        raise ValueError(f"there is no process {process_index}, only process 0")
    return devices(backend)


def device_count(backend: str | None = None) -> int:
    """How many devices there are.

    Args:
        backend: as for `devices`.
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
        "device": None if device is _CPU else device,
        "in_shardings": in_shardings,
        "out_shardings": out_shardings,
        "compiler_options": compiler_options or None,
    }
    other = isinstance(device, Device)
    fixes = {
        "device": f"use backend={device.platform!r}" if other else "give one of covector.devices()",
        "compiler_options": "use effort=0 to 3",
    }
    for name, value in given.items():
        if value is not None:
            raise ValueError(
                compose(
                    f"jit: {name} is not supported, programs are placed by their backend",
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
    """Arrays and numbers as Covector's arrays, in the memory of a device.

    An array that is placed on another device than the processor is one that programs of that
    device need not move again; everybody else reads it as before. What is computed of it is where
    it was computed: results are in the processor's memory.

    Args:
        x: a pytree of arrays and numbers.
        device: one of `devices()`, or of `devices(backend)`; by default arrays stay where they are.
        src: `None` or a device; arrays know where they are.
        donate: must be false: nothing moves.
        may_alias: whether the result may share memory with `x`; it does exactly if `x` is a
            Covector array, which nobody can write to.

    Returns:
        The pytree with arrays for leaves; traced values as they are.

    Raises:
        ValueError: for what is no device, a `donate` or a `may_alias=False` that would be ignored;
            for keys and traced values on another device than the processor.
        MemoryError: if the device has no room.

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
                    "device_put: it is no device",
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
        if isinstance(leaf, Tracer):
            if device not in (None, _CPU):
                raise ValueError(
                    compose(
                        "device_put: a traced value is placed when its program runs",
                        found=f"{leaf.aval} for {device!r}",
                        fix=f"place arguments, and compile with backend={device.platform!r}",
                        line=here(),
                    )
                )
            return leaf
        array = as_array(leaf)
        if device is None or array.device is device:
            return array
        if device is _CPU:
            return Array.of(array._value, array.aval)
        return placed(array, device)

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


# --- what arrays say ------------------------------------------------------------------------------


def _device(self: Any) -> Device:
    return _CPU


def _devices(self: Any) -> set[Device]:
    return {self.device}


install_methods({"device": property(_device), "devices": _devices})
