"""Attention: values averaged with weights that depend on queries and keys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import covector.numpy as cnp
from covector.core import dtypes
from covector.core.errors import compose
from covector.core.promotion import lattice_result
from covector.core.source import here
from covector.nn.normalization import logsumexp, softmax
from covector.ops.gradient import stop_gradient

__all__ = ["dot_product_attention"]

_IMPLEMENTATIONS = (None, "xla")


def dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: Any = None,
    key_value_seq_lengths: Any = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """Scaled dot-product attention.

    Axes are B batch, T queries, S keys and values, N heads of queries, K heads of keys and values
    (each serves N / K heads of queries), H features. Arrays without a batch axis are allowed.

    Args:
        query: (B, T, N, H).
        key: (B, S, K, H).
        value: (B, S, K, H).
        bias: added to the logits; broadcasts to (B, N, T, S).
        mask: booleans that broadcast to (B, N, T, S): which keys a query sees.
        scale: of the logits, by default 1 / sqrt(H).
        is_causal: a query sees the keys up to its own place only.
        query_seq_lengths: int32 (B,), how many queries there are in each element of the batch; the
            result for the others is 0.
        key_value_seq_lengths: int32 (B,), likewise for keys and values.
        local_window_size: how many keys before and after its place a query sees.
        implementation: `None` or "xla", which mean the same here.
        return_residual: also return the logsumexp of the logits, (B, T, N).

    Returns:
        An array (B, T, N, H), in the dtype of `key`.

    Raises:
        ValueError: shapes or dtypes do not fit together.
        NotImplementedError: for "cudnn", which is for GPUs.

    >>> import covector.numpy as cnp
    >>> from covector import nn
    >>> x = cnp.ones((2, 5, 4, 8))
    >>> nn.dot_product_attention(x, x, x, is_causal=True).shape
    (2, 5, 4, 8)
    """
    _check_implementation(implementation)
    shape = cnp.shape(query)
    q, k, v = (_with_batch(x) for x in (query, key, value))
    _check_shapes(q, k, v)
    offset, visible = (None if x is None else _with_batch(x) for x in (bias, mask))
    lengths = [
        _lengths(name, x, k.shape[0])
        for name, x in (
            ("query_seq_lengths", query_seq_lengths),
            ("key_value_seq_lengths", key_value_seq_lengths),
        )
    ]
    groups = k.shape[2]
    logits = _logits(q, k, scale)
    if offset is not None:
        logits = (logits + _grouped("bias", offset, groups, q.shape[2])).astype(logits.dtype)
    masks = _masks(q.shape[1], k.shape[1], is_causal, local_window_size, lengths)
    if visible is not None:
        if not dtypes.is_bool(visible.dtype):
            raise ValueError(f"nn.dot_product_attention: mask must be boolean, got {visible.aval}")
        masks.append(_grouped("mask", visible, groups, q.shape[2]))
    logits = _masked(logits, masks).astype(dtypes.float32)
    weights = softmax(logits, axis=-1).astype(k.dtype)
    mixed = cnp.einsum("bkgts,bskh->btkgh", weights, v)
    if lengths[0] is not None:
        inside = cnp.arange(q.shape[1])[None, :] < lengths[0][:, None]
        mixed = mixed * inside[:, :, None, None, None].astype(mixed.dtype)
    mixed = mixed.reshape(shape)
    if not return_residual:
        return mixed
    residual = cnp.transpose(logsumexp(logits, axis=-1).astype(k.dtype), (0, 3, 1, 2))
    return mixed, stop_gradient(residual.reshape(shape[:-1]))


# --- arguments ------------------------------------------------------------------------------------


def _check_implementation(implementation: str | None) -> None:
    if implementation == "cudnn":
        raise NotImplementedError(
            "nn.dot_product_attention: implementation 'cudnn' is for GPUs; leave it out"
        )
    if implementation not in _IMPLEMENTATIONS:
        raise ValueError(
            f"nn.dot_product_attention: implementation is None or 'xla', not {implementation!r}"
        )


def _with_batch(x: Any) -> Any:
    array = cnp.asarray(x)
    missing = 4 - len(array.shape)
    return cnp.expand_dims(array, tuple(range(missing))) if missing > 0 else array


def _check_shapes(q: Any, k: Any, v: Any) -> None:
    def refuse(rule: str, fix: str) -> ValueError:
        found = f"query {q.aval}, key {k.aval}, value {v.aval}"
        return ValueError(
            compose(f"nn.dot_product_attention needs {rule}", found=found, fix=fix, line=here())
        )

    if not len(q.shape) == len(k.shape) == len(v.shape) == 4:
        raise refuse("arrays of rank 3 or 4", "order axes as (batch, places, heads, features)")
    if not q.dtype == k.dtype == v.dtype:
        raise refuse("equal dtypes", "convert them with astype")
    if k.shape != v.shape:
        raise refuse("keys and values of equal shape", "check the order of the arguments")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise refuse("queries and keys of equal batch and features", "check the order of axes")
    if k.shape[2] == 0 or q.shape[2] % k.shape[2]:
        raise refuse("a multiple of the heads of keys as heads of queries", "repeat queries")


def _lengths(name: str, given: Any, batch: Any) -> Any:
    if given is None:
        return None
    lengths = cnp.asarray(given)
    if lengths.shape != (batch,) or lengths.dtype != dtypes.int32:
        raise ValueError(
            f"nn.dot_product_attention: {name} must be int32 of shape ({batch},), got "
            f"{lengths.aval}"
        )
    return lengths


def _grouped(name: str, x: Any, groups: int, heads: int) -> Any:
    """A bias or mask (B, N, T, S) by the head of keys that each head of queries belongs to."""
    batch, own, rows, columns = x.shape
    if own == 1:
        return x[:, :, None]
    if own != heads:
        raise ValueError(f"nn.dot_product_attention: {name} has {own} heads, query has {heads}")
    return x.reshape((batch, groups, heads // groups, rows, columns))


# --- logits ---------------------------------------------------------------------------------------


def _logits(q: Any, k: Any, scale: float | None) -> Any:
    """(B, K, N / K, T, S), in float32 at least."""
    dtype = lattice_result([(q.dtype, False), (dtypes.float32, False)])[0]
    batch, rows, heads, features = q.shape
    groups = k.shape[2]
    split = q.reshape((batch, rows, groups, heads // groups, features))
    logits = cnp.einsum("btkgh,bskh->bkgts", split.astype(dtype), k.astype(dtype))
    factor = 1.0 / math.sqrt(features) if scale is None else scale
    return logits * cnp.asarray(factor, dtype=dtype)


def _masks(rows: int, columns: int, is_causal: bool, window: Any, lengths: list[Any]) -> list[Any]:
    """What hides keys from queries, as booleans that broadcast to the logits."""
    row, column = np.arange(rows)[:, None], np.arange(columns)[None, :]
    masks: list[Any] = []
    if is_causal:
        masks.append(cnp.asarray(row >= column))
    if window is not None:
        before, after = (window, window) if isinstance(window, int) else window
        masks.append(cnp.asarray((row <= column + before) & (row >= column - after)))
    for places, length in zip((row, column), lengths, strict=True):
        if length is not None:
            inside = cnp.asarray(places.astype(np.int32)) < length[:, None, None]
            masks.append(inside[:, None, None])
    return masks


def _masked(logits: Any, masks: list[Any]) -> Any:
    if not masks:
        return logits
    visible = masks[0]
    for mask in masks[1:]:
        visible = cnp.logical_and(visible, mask)
    # Finite, so that a query that sees nothing gets equal weights and no NaN.
    largest = min(float(dtypes.finfo(logits.dtype).max), float(np.finfo(np.float32).max))
    return cnp.where(visible, logits, cnp.asarray(-0.7 * largest, dtype=logits.dtype))
