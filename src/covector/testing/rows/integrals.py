"""Rows of the special functions beyond those of `jax.lax`."""

from __future__ import annotations

from typing import Any

from covector.ops import integrals as ops
from covector.testing.optable import FLOATS, Domain, Operand, OpRow

_REAL = Operand(Domain(-4, 4, avoid=(0.0,)))
_POSITIVE = Operand(Domain(0.2, 6.0))
_SHARE = Operand(Domain(0.05, 0.95))


def _scipy(name: str) -> Any:
    def twin(*operands: Any) -> Any:
        import scipy.special

        return getattr(scipy.special, name)(*operands)

    return twin


def _row(name: str, twin: str | None, *operands: Operand, **options: Any) -> OpRow:
    return OpRow(
        name,
        getattr(ops, name),
        operands,
        FLOATS,
        numpy=None if twin is None else _scipy(twin),
        roots=True,
        edges=False,
        **options,
    )


ROWS = (
    _row("expn", "expn", Operand(Domain(1, 4, whole=True)), _POSITIVE, differentiable=(1,)),
    _row("expi", "expi", _REAL),
    _row("spence", "spence", _POSITIVE),
    _row("log_ndtr", "log_ndtr", _REAL),
    _row("ndtri", "ndtri", _SHARE),
    _row("erfcx", "erfcx", _REAL),
    _row("dawsn", "dawsn", _REAL),
    _row("bessel_i0", "i0", _REAL),
    _row("bessel_i1", "i1", _REAL),
    _row("hyp1f1", "hyp1f1", _POSITIVE, _POSITIVE, _REAL, differentiable=(2,), ulps=512.0),
    _row("hyp1f1_grad_a", None, _POSITIVE, _POSITIVE, _REAL, order=0),
    _row("hyp1f1_grad_b", None, _POSITIVE, _POSITIVE, _REAL, order=0),
    _row("xlogy", "xlogy", _REAL, _POSITIVE),
    _row("xlog1py", "xlog1py", _REAL, _POSITIVE),
    _row("xlogx", None, _POSITIVE),
)
"""One row for each function."""
