"""C functions that loop IR calls: products and factors of matrices, sorts, Fourier transforms.

The names and arguments are those of Covector's own library; the code is here, in `library.c`. Lines
`/// name: needs` cut it into pieces. A piece with a family of types in its name, in capitals, is
written for each of them, by replacing words.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Piece(NamedTuple):
    """A function, or what several of them need.

    Attributes:
        text: of C.
        needs: pieces that come before it.
    """

    text: str
    needs: tuple[str, ...]


_PARTS = {"c64": "float", "c128": "double"}
_FAMILIES: dict[str, dict[str, dict[str, str]]] = {
    "REAL": {name: {"TYPE": type_} for name, type_ in (("f32", "float"), ("f64", "double"))},
    "COMPLEX": {name: {"TYPE": part} for name, part in _PARTS.items()},
    "ANY": {
        **{
            name: {"HEADER": "", "REALTYPE": type_, "REALPART": "", "CONJ": "", "SIZE": size}
            | {"TYPE": type_}
            for name, type_, size in (("f32", "float", "fabsf"), ("f64", "double", "fabs"))
        },
        **{
            name: {
                "HEADER": "complex",
                "REALTYPE": part,
                "REALPART": f"creal{f}",
                "CONJ": f"conj{f}",
            }
            | {"SIZE": f"size_{f or 'd'}", "TYPE": f"{part} complex"}
            for (name, part), f in zip(_PARTS.items(), ("f", ""), strict=True)
        },
    },
}
"""Families of types, by names in symbols, and what stands for words in capitals in their code."""


@cache
def _pieces() -> dict[str, Piece]:
    found: dict[str, Piece] = {}
    text = files("covector_c").joinpath("library.c").read_text()
    for part in text.split("\n/// ")[1:]:
        head, _, body = part.partition("\n")
        name, _, needs = head.partition(":")
        family = next((f for f in _FAMILIES if f in name), None)
        if family is None:
            found[name] = Piece(body, tuple(needs.split()))
            continue
        for short, own in _FAMILIES[family].items():
            words = {**own, family: short}
            found[_with(name, words)] = Piece(
                _with(body, words), tuple(_with(needs, words).split())
            )
    return found


def _with(text: str, words: dict[str, str]) -> str:
    for word, replacement in words.items():
        text = text.replace(word, replacement)
    return text


LIBRARY = _pieces()
"""Pieces by name."""

CALLS = frozenset(name for name in LIBRARY if name.startswith("cv_"))
"""The functions that loop IR may call."""
