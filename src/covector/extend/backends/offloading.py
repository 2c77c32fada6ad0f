"""Programs of which a device runs parts, and another backend the rest."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from dataclasses import replace as changed
from typing import Any, Protocol

import numpy as np

from covector.compiler.passes.constants import Constants
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.dce import DeadCode
from covector.compiler.passes.inline import Inline
from covector.compiler.passes.invariants import Invariants
from covector.compiler.pipeline import run_passes
from covector.core.array import Array, as_array
from covector.core.backend import Executable, Options, get_backend
from covector.core.config import config
from covector.core.device import Device, PlacedArray, devices_of
from covector.core.errors import CompilationError, MissingCapabilityError, compose
from covector.core.interpret import stored_form
from covector.core.program import Equation, Program, Variable, subprograms
from covector.core.verify import verify
from covector.extend.backends.partition import may_move, partition
from covector.ops.nested import nbytes
from covector.ops.offload import offload as offload_primitive

NumpyArray = np.ndarray[Any, Any]


class PartExecutable(Protocol):
    """A part of a program, compiled for a device."""

    def __call__(self, *buffers: Any) -> Sequence[Any]:
        """Runs it: from buffers in the device's memory (`Device.put`) to others."""
        ...

    def as_text(self, stage: str = "") -> str:
        """The code, for people."""
        ...

    def cost(self) -> dict[str, Any]:
        """What is known of a run before it is made."""
        ...


class OffloadingBackend(Protocol):
    """A backend that runs parts of programs; its `compile` is `offload`.

    It may have `is_worthwhile(program) -> bool`, too: whether a part is worth moving its operands.

    Attributes:
        name: of the backend.
        devices: those it has; the first runs parts.
    """

    name: str

    @property
    def devices(self) -> Sequence[Device]: ...

    def claims(self, equation: Equation) -> bool:
        """Whether it runs an equation."""
        ...

    def compile_part(self, program: Program, options: Options) -> PartExecutable:
        """Compiles a program of claimed equations; its sizes are numbers."""
        ...


@dataclass
class Transfers:
    """How often parts ran, and what was moved for them.

    Attributes:
        runs: of parts.
        uploads: arrays moved to the device.
        uploaded_bytes: of them.
        downloads: arrays moved to the host.
        downloaded_bytes: of them.
        resident: operands that were on the device: arguments placed there (`device_put`), or moved
            before in the same call.
    """

    runs: int = 0
    uploads: int = 0
    uploaded_bytes: int = 0
    downloads: int = 0
    downloaded_bytes: int = 0
    resident: int = 0

    def add(self, other: Transfers) -> None:
        """Adds up."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


class _Call:
    """A call of a program: what is where.

    Args:
        args: of the call, which do not change while it runs.
        device: that runs parts.

    Attributes:
        by_part: what was moved for each part.
    """

    def __init__(self, args: Sequence[Array], device: Device) -> None:
        self._buffers: list[Any] = [
            arg.on(device) if isinstance(arg, PlacedArray) else None for arg in args
        ]
        self.by_part: dict[int, Transfers] = {}

    def buffer_of(self, argument: int) -> Any:
        """The copy of an argument on the device, `None` if there is none yet."""
        return self._buffers[argument]

    def keep(self, argument: int, buffer: Any) -> None:
        """Remembers the copy of an argument until the call ends."""
        self._buffers[argument] = buffer


class _Calls(threading.local):
    """The call that a thread is in, of one program."""

    current: _Call | None = None


class OffloadedPart:
    """A part of a program on a device (implements `covector.ops.offload.Part`).

    Attributes:
        name: the backend's, with a number.
        program: what it computes.
        executable: what the backend made of it.
        equation: the user's, for messages: the first that is not only there for others.
        path: the loops and branches it stands in, the outermost first.
        arguments: for each operand which argument of the whole program it is; `None` for others.
    """

    def __init__(
        self,
        backend: OffloadingBackend,
        program: Program,
        options: Options,
        equation: Equation,
        number: int,
        calls: _Calls,
    ) -> None:
        self.name = f"{backend.name}.{number}"
        self.__qualname__ = self.name
        self.program = program
        self.number = number
        self.equation = equation
        self.path: tuple[str, ...] = ()
        self.arguments: Sequence[int | None] = [None] * len(program.inputs)
        self._calls = calls
        self._device = devices_of(backend)[0]
        self.executable = self._compiled(backend, options)

    def _compiled(self, backend: OffloadingBackend, options: Options) -> PartExecutable:
        try:
            return backend.compile_part(self.program, options)
        except (MissingCapabilityError, CompilationError):
            raise
        except Exception as error:
            raise CompilationError(
                compose(
                    f"the backend {backend.name!r} cannot compile what it claims",
                    found=f"{type(error).__name__}: {error}",
                    line=self.equation.place or None,
                    fix="let `claims` refuse such equations",
                )
            ) from error

    def run(self, operands: Sequence[NumpyArray]) -> list[NumpyArray]:
        """Moves operands that are not there, runs it, and moves its results back."""
        moved = Transfers(runs=1)
        try:
            buffers = [
                self._uploaded(x, k, moved) for x, k in zip(operands, self.arguments, strict=True)
            ]
            results = [self._device.get(b) for b in self.executable(*buffers)]
            self._check(results)
        except Exception as error:
            error.add_note(f"in: {self.name}\n  at: {self.equation.place}")
            raise
        moved.downloads = len(results)
        moved.downloaded_bytes = sum([x.nbytes for x in results])
        call = self._calls.current
        if call is not None:
            call.by_part.setdefault(self.number, Transfers()).add(moved)
        return results

    def _uploaded(self, operand: NumpyArray, argument: int | None, moved: Transfers) -> Any:
        call = self._calls.current if argument is not None else None
        if call is not None and argument is not None:
            known = call.buffer_of(argument)
            if known is not None:
                moved.resident += 1
                return known
        moved.uploads += 1
        moved.uploaded_bytes += operand.nbytes
        buffer = self._device.put(operand)
        if call is not None and argument is not None:
            call.keep(argument, buffer)
        return buffer

    def _check(self, results: Sequence[NumpyArray]) -> None:
        found = [(tuple(x.shape), x.dtype) for x in results]
        wanted = [stored_form(a) for a in self.program.output_avals]
        if found != wanted:
            raise TypeError(f"{self.name} gives {found} instead of {wanted}")

    @property
    def bytes_in(self) -> int:
        """Of its operands."""
        return sum([nbytes(a) for a in self.program.input_avals])

    @property
    def bytes_out(self) -> int:
        """Of its results."""
        return sum([nbytes(a) for a in self.program.output_avals])

    def summary(self) -> str:
        """One line: what it is made of, what it moves, and the user's line."""
        names = ", ".join([e.primitive.name for e in self.program.equations])
        inside = f" in {', '.join(self.path)}" if self.path else ""
        place = f" at {self.equation.place}" if self.equation.place else ""
        return (
            f"{self.name}{inside}: {names}; {self.bytes_in:,} bytes to the device, "
            f"{self.bytes_out:,} back{place}"
        )


class Offloaded:
    """A program with parts that a device runs.

    What is not described here is that of the executable of the host's program.

    Attributes:
        host: the host's program: an `offload` equation stands for each part.
        parts: in the order in which they stand there.
        transfers: of the last call, by the part's number.
    """

    def __init__(
        self,
        program: Program,
        host: Program,
        parts: Sequence[OffloadedPart],
        executable: Executable,
        device: Device,
        calls: _Calls,
    ) -> None:
        self._program = program
        self.host = host
        self.parts = parts
        self._executable = executable
        self._device = device
        self._calls = calls
        self.transfers: dict[int, Transfers] = {}

    def __call__(self, *args: Any) -> Sequence[Array]:
        arrays = [as_array(a) for a in args]
        outer, call = self._calls.current, _Call(arrays, self._device)
        self._calls.current = call
        try:
            return self._executable(*arrays)
        finally:
            self._calls.current = outer
            self.transfers = call.by_part

    def as_text(self, stage: str = "") -> str:
        """The code at one stage.

        Args:
            stage: "offloaded" (the default): the host's program, and what is known of each part;
                "parts": the programs of the parts; "device": what the device runs; "program": as
                it was traced; others are those of the host's backend.

        Raises:
            ValueError: if neither has that stage.
        """
        if stage == "program":
            return self._program.as_text()
        if stage in ("", "offloaded"):
            return "\n".join([self.host.as_text(), *[part.summary() for part in self.parts]])
        if stage in ("parts", "device"):
            return "\n\n".join([self._text_of(part, stage) for part in self.parts])
        return self._executable.as_text(stage)

    def _text_of(self, part: OffloadedPart, stage: str) -> str:
        text = part.program.as_text() if stage == "parts" else part.executable.as_text()
        return f"{part.summary()}\n{text}"

    def cost(self) -> dict[str, Any]:
        """Figures of the host's program, and `parts`: of each part, and of its runs in the last
        call."""
        parts = {
            part.name: {
                "equations": len(part.program.equations),
                "bytes_in": part.bytes_in,
                "bytes_out": part.bytes_out,
                **part.executable.cost(),
                "last call": self.transfers.get(part.number, Transfers()),
            }
            for part in self.parts
        }
        return {**self._executable.cost(), "parts": parts}

    def __getattr__(self, name: str) -> Any:
        # Reports ask for what the host's backend knows; calls have to come by here.
        if name.startswith("_") or name == "native":
            raise AttributeError(name)
        return getattr(self._executable, name)


def _standing(
    program: Program, arguments: Mapping[Variable, int], path: tuple[str, ...] = ()
) -> Iterator[OffloadedPart]:
    """The parts in a host's program, in order.

    Tells them where they stand, and which of their operands are arguments of the whole program.
    """
    for equation in program.equations:
        known = [arguments.get(a) if type(a) is Variable else None for a in equation.inputs]
        if equation.primitive is offload_primitive:
            part: OffloadedPart = equation.params["part"]
            part.path, part.arguments = path, known
            yield part
        for nested, given in _same_inputs(equation, known):
            pairs = zip(nested.inputs, given, strict=False)  # then come those that change
            inner = {v: k for v, k in pairs if k is not None}
            yield from _standing(nested, inner, (*path, equation.primitive.name))


def _same_inputs(
    equation: Equation, operands: Sequence[Any]
) -> Iterator[tuple[Program, Sequence[Any]]]:
    """The programs of an equation, and which operands their first inputs are, in each iteration."""
    params, name = equation.params, equation.primitive.name
    if name == "while":
        first = params["cond_nconsts"]
        yield params["cond_program"], operands[:first]
        yield params["body_program"], operands[first : first + params["body_nconsts"]]
        return
    for nested in subprograms(params):
        if name == "cond":
            yield nested, operands[1:]
        else:
            yield nested, operands[: params["num_consts"]] if name == "scan" else ()


def offload(
    program: Program, options: Options, backend: OffloadingBackend, base: str = "native"
) -> Offloaded:
    """Compiles a program for a device that runs parts of it, and another backend for the rest.

    Claimed equations that can run together become parts, in the bodies of loops and branches, too.
    The other backend calls parts as Python functions; it may be one that offloads by itself.
    Where a program meets a part, operands are copied to the device (`Device.put`) and results back
    (`Device.get`), but for operands that are arguments placed there, or moved in the same call.

    Equations with effects, calls of Python and arrays of sizes known at run time stay with the
    host. Arguments are not donated.

    Args:
        program: any valid program.
        options: of the compilation.
        backend: claims equations and compiles parts.
        base: the backend of the rest.

    Returns:
        What runs it; its `as_text`, `cost` and `jit(f).explain` show parts and transfers.

    Raises:
        CompilationError: if the backend cannot compile what it claims.
        MissingCapabilityError: if the other backend cannot call Python functions.
        ValueError: if the backend declares no devices, or there is no backend `base`.

    Example:
        >>> import covector as cv, covector.numpy as cnp
        >>> from covector.core.interpret import run
        >>> from covector.extend.backends import register_backend
        >>> class Part:
        ...     def __init__(self, program):
        ...         self.program = program
        ...
        ...     def __call__(self, *buffers):
        ...         return run(self.program, *buffers)
        ...
        ...     def as_text(self, stage=""):
        ...         return self.program.as_text()
        ...
        ...     def cost(self):
        ...         return {}
        >>> class Multiplier:
        ...     name = "multiplier"
        ...     devices = (Device("multiplier"),)
        ...
        ...     def claims(self, equation):
        ...         return equation.primitive.name == "dot_general"
        ...
        ...     def compile_part(self, program, options):
        ...         return Part(program)
        ...
        ...     def compile(self, program, options):
        ...         return offload(program, options, self)
        >>> register_backend("multiplier", Multiplier)
        >>> f = cv.jit(lambda x: cnp.sin(x @ x), backend="multiplier")
        >>> f(cnp.eye(2))[0]
        Array([0.84147096, 0.        ], dtype=float32)
        >>> compiled = f.lower(cnp.eye(2)).compile()
        >>> compiled.cost_analysis()["parts"]["multiplier.0"]["bytes_in"]
        16
    """
    devices = devices_of(backend)
    if not devices:
        raise ValueError(
            compose(
                f"the backend {backend.name!r} offloads to a device, and declares none",
                fix="let its attribute `devices` be a list with one",
            )
        )
    parts: list[OffloadedPart] = []
    calls = _Calls()
    worthwhile = getattr(backend, "is_worthwhile", None)

    def make(part: Program, equations: Sequence[Equation]) -> Equation | None:
        if worthwhile is not None and not worthwhile(part):
            return None
        shown = next((e for e in equations if e.location is not None), equations[0])
        parts.append(OffloadedPart(backend, part, options, shown, len(parts), calls))
        return Equation(
            offload_primitive, (), (), {"part": parts[-1]}, frame=shown.frame, scope=shown.scope
        )

    def kept(equation: Equation) -> bool:
        return may_move(equation) and backend.claims(equation)

    passes = (Inline(kept=kept), Constants(), DeadCode(), CommonSubexpressions(), Invariants())
    plain = run_passes(program, passes)
    host = partition(plain, backend.claims, make)
    if config.check:
        verify(host)
        for part in parts:
            verify(part.program)
    executable = get_backend(base).compile(host, changed(options, donated=()))
    standing = list(_standing(host, {v: k for k, v in enumerate(host.inputs)}))
    return Offloaded(program, host, standing, executable, devices[0], calls)
