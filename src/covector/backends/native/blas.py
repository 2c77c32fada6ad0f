"""Calls of a BLAS that a library is linked with, as LLVM text: its functions are those of Fortran.

Loop IR calls `cv_gemm_f32` and others with row-major matrices (`_native/blas.c`, `lapack.c`). A
matrix by rows is its transpose by columns, so that

    c = op(a) op(b)     becomes     c' = op(b)' op(a)'
    op(a) x = b         becomes     x' op(a)' = b'

where `'` costs nothing. Integers are of 32 bits, as in most builds of BLAS.
"""

from __future__ import annotations

from collections.abc import Iterable

PREFIX = "cv_"
_LETTERS = {"f32": "s", "f64": "d", "c64": "c", "c128": "z"}
_ONES = {
    "f32": "float 1.0, float 0.0",
    "f64": "double 1.0, double 0.0",
    "c64": "float 1.0, float 0.0",
    "c128": "double 1.0, double 0.0",
}
SYMBOLS = frozenset(f"cv_{name}_{t}" for name in ("gemm", "trsm", "potrf") for t in _LETTERS)
"""What loop IR may call if there is a BLAS."""

_TOO_LARGE = -1001
"""CV_LIBRARY_TOO_LARGE: a size that has no 32 bits."""


class _Body:
    """The lines of a function; its integers are numbered by what they are for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._checks: list[str] = []

    def integer(self, name: str) -> str:
        """The address of a 32-bit integer with the value of a 64-bit parameter."""
        self.lines += [
            f"  %{name}.32 = trunc i64 %{name} to i32",
            f"  %{name}.p = alloca i32",
            f"  store i32 %{name}.32, ptr %{name}.p",
            f"  %{name}.back = sext i32 %{name}.32 to i64",
            f"  %{name}.ok = icmp eq i64 %{name}.back, %{name}",
        ]
        self._checks.append(f"%{name}.ok")
        return f"ptr %{name}.p"

    def letter(self, name: str, choices: str, value: str | None = None) -> str:
        """The address of a letter, chosen by a parameter of 0, 1 or 2."""
        value = value or f"%{name}"
        chosen = f"i8 {ord(choices[0])}"
        for k, choice in enumerate(choices[1:], 1):
            self.lines += [
                f"  %{name}.is{k} = icmp eq i64 {value}, {k}",
                f"  %{name}.l{k} = select i1 %{name}.is{k}, i8 {ord(choice)}, {chosen}",
            ]
            chosen = f"i8 %{name}.l{k}"
        self.lines += [f"  %{name}.c = alloca i8", f"  store {chosen}, ptr %{name}.c"]
        return f"ptr %{name}.c"

    def scalars(self, dtype: str) -> tuple[str, str]:
        """The addresses of 1 and 0."""
        one, zero = _ONES[dtype].split(", ")
        type_ = one.split()[0]
        self.lines += [f"  %one = alloca [2 x {type_}]", f"  %none = alloca [2 x {type_}]"]
        for name, first in (("one", one), ("none", zero)):
            self.lines += [
                f"  store {first}, ptr %{name}",
                f"  %{name}.i = getelementptr inbounds {type_}, ptr %{name}, i64 1",
                f"  store {zero}, ptr %{name}.i",
            ]
        return "ptr %one", "ptr %none"

    def text(self, head: str, call: str, result: str) -> str:
        """The whole function: nothing is called if a size is too large."""
        fits, lines = "true", list(self.lines)
        for k, check in enumerate(self._checks):
            lines.append(f"  %fits{k} = and i1 {fits}, {check}")
            fits = f"%fits{k}"
        lines += [f"  br i1 {fits}, label %run, label %large", "run:", call, result]
        lines += ["large:", f"  ret i32 {_TOO_LARGE}", "}"]
        return "\n".join([f"{head} {{", "entry:", *lines, ""])


def _gemm(dtype: str) -> str:
    body = _Body()
    m, n, k, lda, ldb, ldc = [body.integer(x) for x in ("m", "n", "k", "lda", "ldb", "ldc")]
    op_a, op_b = body.letter("opa", "NTC"), body.letter("opb", "NTC")
    one, zero = body.scalars(dtype)
    name = f"{_LETTERS[dtype]}gemm_"
    arguments = [op_b, op_a, n, m, k, one, "ptr %b", ldb, "ptr %a", lda, zero, "ptr %c", ldc]
    head = (
        f"declare void @{name}({', '.join(['ptr'] * 13)}, i64, i64)\n"
        f"define i32 @cv_gemm_{dtype}(i64 %m, i64 %n, i64 %k, ptr %a, i64 %lda, ptr %b, i64 %ldb, "
        "ptr %c, i64 %ldc, i64 %opa, i64 %opb)"
    )
    # Fortran's lengths of the letters come last.
    call = f"  call void @{name}({', '.join([*arguments, 'i64 1', 'i64 1'])})"
    return body.text(head, call, "  ret i32 0")


def _trsm(dtype: str) -> str:
    body = _Body()
    m, n, lda, ldb = [body.integer(x) for x in ("m", "n", "lda", "ldb")]
    side, part = body.letter("right", "RL"), body.letter("lower", "LU")
    op, diagonal = body.letter("op", "NTC"), body.letter("unit", "NU")
    one, _ = body.scalars(dtype)
    name = f"{_LETTERS[dtype]}trsm_"
    arguments = [side, part, op, diagonal, n, m, one, "ptr %a", lda, "ptr %b", ldb]
    head = (
        f"declare void @{name}({', '.join(['ptr'] * 11)}, i64, i64, i64, i64)\n"
        f"define i32 @cv_trsm_{dtype}(i64 %right, i64 %lower, i64 %op, i64 %unit, i64 %m, i64 %n, "
        "ptr %a, i64 %lda, ptr %b, i64 %ldb)"
    )
    call = f"  call void @{name}({', '.join([*arguments, *['i64 1'] * 4])})"
    return body.text(head, call, "  ret i32 0")


def _potrf(dtype: str) -> str:
    body = _Body()
    n, lda = body.integer("n"), body.integer("lda")
    part = body.letter("lower", "LU")
    body.lines.append("  %info = alloca i32")
    name = f"{_LETTERS[dtype]}potrf_"
    head = (
        f"declare void @{name}({', '.join(['ptr'] * 5)}, i64)\n"
        f"define i32 @cv_potrf_{dtype}(i64 %n, ptr %a, i64 %lda, i64 %lower)"
    )
    call = f"  call void @{name}({part}, {n}, ptr %a, {lda}, ptr %info, i64 1)"
    return body.text(head, call, "  %found = load i32, ptr %info\n  ret i32 %found")


_MAKERS = {"gemm": _gemm, "trsm": _trsm, "potrf": _potrf}


def definitions(symbols: Iterable[str]) -> list[str]:
    """Definitions of what loop IR calls, by functions of BLAS.

    Args:
        symbols: some of `SYMBOLS`; others are left out.

    Returns:
        A module for each.
    """
    found: list[str] = []
    for symbol in symbols:
        if symbol in SYMBOLS:
            _, name, dtype = symbol.split("_")
            found.append(_MAKERS[name](dtype))
    return found
