"""The instruction set, its assembly language, and what reads it.

A program works on numbered tensors in DRAM (`d0`, `d1` ...), which are flat, and on numbered slots
of the scratchpad (`s0`, `s1` ...), which hold a tile each:

    load.f32 s0, d1+0 [32 x 64] (64, 1)     a tile of 32 rows, 64 elements apart, and 64 columns
    weights s1                              the array takes a tile of weights
    matmul.f32 s2, s0                       s2 = s0 @ weights
    accumulate.f32 s2, s0                   s2 += s0 @ weights
    add.f32 s3, s2, #1.0                    an operation of the vector unit; # is a constant
    store s3, d2+0 [32 x 64] (64, 1)
    move d3, d1+5 [2 x 3 x 4] (12, 1, 3)    elements of a tensor in another order, DRAM to DRAM

The word after the dot is the type of the result: f32, bf16, i8, i32 or bool.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Elements of a tensor in DRAM.

    Attributes:
        tensor: its number.
        offset: of the first element.
        shape: how many along each axis; 0 axes for a single one.
        strides: how far apart they are, in elements.
    """

    tensor: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        return f"d{self.tensor}+{self.offset} [{shape}] ({', '.join(map(str, self.strides))})"

    @property
    def size(self) -> int:
        """How many elements there are."""
        return math.prod(self.shape)

    @property
    def distinct(self) -> int:
        """How many are read: along axes with stride 0 each is repeated."""
        return math.prod([n for n, stride in zip(self.shape, self.strides, strict=True) if stride])


@dataclass(frozen=True)
class Load:
    """Copies a tile from DRAM into a slot."""

    slot: int
    place: Place
    dtype: str

    def __str__(self) -> str:
        return f"load.{self.dtype} s{self.slot}, {self.place}"


@dataclass(frozen=True)
class Store:
    """Copies a tile from a slot into DRAM."""

    slot: int
    place: Place

    def __str__(self) -> str:
        return f"store s{self.slot}, {self.place}"


@dataclass(frozen=True)
class Move:
    """Copies elements of a tensor, in another order, to the front of another tensor."""

    tensor: int
    place: Place

    def __str__(self) -> str:
        return f"move d{self.tensor}, {self.place}"


@dataclass(frozen=True)
class Weights:
    """The array takes a tile of weights."""

    slot: int

    def __str__(self) -> str:
        return f"weights s{self.slot}"


@dataclass(frozen=True)
class Matmul:
    """Multiplies a tile by the weights, into a slot; adds to what is there if asked."""

    slot: int
    rows: int
    dtype: str
    adds: bool

    def __str__(self) -> str:
        name = "accumulate" if self.adds else "matmul"
        return f"{name}.{self.dtype} s{self.slot}, s{self.rows}"


@dataclass(frozen=True)
class Vector:
    """Applies an operation of the vector unit to tiles of one shape.

    Attributes:
        name: of `vector.OPERATIONS`.
        slot: of the result.
        operands: numbers of slots, constants as floats.
        dtype: of the result.
    """

    name: str
    slot: int
    operands: tuple[int | float, ...]
    dtype: str

    def __str__(self) -> str:
        texts = [f"#{x!r}" if isinstance(x, float) else f"s{x}" for x in self.operands]
        return ", ".join([f"{self.name}.{self.dtype} s{self.slot}", *texts])


Instruction = Load | Store | Move | Weights | Matmul | Vector


def assembly(code: Sequence[Instruction]) -> str:
    """The text of a program, an instruction a line."""
    return "\n".join(map(str, code))


class AssemblyError(ValueError):
    """A line is no instruction."""


_PLACE = r"d(\d+)\+(\d+) \[([\d x]*)\] \(([-\d, ]*)\)"
_LOAD = re.compile(rf"load\.(\w+) s(\d+), {_PLACE}")
_STORE = re.compile(rf"store s(\d+), {_PLACE}")
_MOVE = re.compile(rf"move d(\d+), {_PLACE}")
_WEIGHTS = re.compile(r"weights s(\d+)")
_MATMUL = re.compile(r"(matmul|accumulate)\.(\w+) s(\d+), s(\d+)")
_VECTOR = re.compile(r"(\w+)\.(\w+) s(\d+)((?:, (?:s\d+|#[-+.\w]+))+)")


def parse(text: str) -> list[Instruction]:
    """Reads assembly language.

    Args:
        text: lines; empty ones and what follows ";" are left out.

    Returns:
        The program.

    Raises:
        AssemblyError: if a line is no instruction; names it and its number.

    Example:
        >>> print(assembly(parse("weights s1 ; a comment")))
        weights s1
    """
    found: list[Instruction] = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.partition(";")[0].strip()
        if bare:
            instruction = _instruction(bare)
            if instruction is None:
                raise AssemblyError(f"line {number} is no instruction: {line.strip()}")
            found.append(instruction)
    return found


def _instruction(line: str) -> Instruction | None:
    if m := _LOAD.fullmatch(line):
        return Load(int(m[2]), _place(m.groups()[2:]), m[1])
    if m := _STORE.fullmatch(line):
        return Store(int(m[1]), _place(m.groups()[1:]))
    if m := _MOVE.fullmatch(line):
        return Move(int(m[1]), _place(m.groups()[1:]))
    if m := _WEIGHTS.fullmatch(line):
        return Weights(int(m[1]))
    if m := _MATMUL.fullmatch(line):
        return Matmul(int(m[3]), int(m[4]), m[2], m[1] == "accumulate")
    if m := _VECTOR.fullmatch(line):
        operands = [
            float(x[1:]) if x[0] == "#" else int(x[1:]) for x in m[4].removeprefix(", ").split(", ")
        ]
        return Vector(m[1], int(m[3]), tuple(operands), m[2])
    return None


def _place(texts: Sequence[str]) -> Place:
    tensor, offset, shape, strides = texts
    return Place(
        int(tensor),
        int(offset),
        tuple([int(n) for n in shape.split(" x ")]) if shape else (),
        tuple([int(n) for n in strides.split(", ")]) if strides else (),
    )
