"""Shapes, axes, joining and cutting against NumPy and JAX."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import ConcretizationTypeError

ONE = {
    "reshape": lambda m, x: m.reshape(x, (4, 6)),
    "reshape with an unknown": lambda m, x: m.reshape(x, (2, -1, 2)),
    "reshape in column order": lambda m, x: m.reshape(x, (6, 4), order="F"),
    "reshape to a number": lambda m, x: m.reshape(x, 24),
    "ravel": lambda m, x: m.ravel(x),
    "ravel in column order": lambda m, x: m.ravel(x, order="F"),
    "transpose": lambda m, x: m.transpose(x),
    "transpose in order": lambda m, x: m.transpose(x, (1, 2, 0)),
    "transpose with negative axes": lambda m, x: m.transpose(x, (-1, 0, -2)),
    "permute_dims": lambda m, x: m.permute_dims(x, (2, 0, 1)),
    "matrix_transpose": lambda m, x: m.matrix_transpose(x),
    "swapaxes": lambda m, x: m.swapaxes(x, 0, -1),
    "moveaxis": lambda m, x: m.moveaxis(x, 0, -1),
    "moveaxis of two": lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)),
    "rollaxis": lambda m, x: m.rollaxis(x, 2),
    "rollaxis to a place": lambda m, x: m.rollaxis(x, 0, 2),
    "expand_dims": lambda m, x: m.expand_dims(x, 1),
    "expand_dims of two": lambda m, x: m.expand_dims(x, (0, -1)),
    "squeeze": lambda m, x: m.squeeze(m.expand_dims(x, (0, 2))),
    "squeeze one": lambda m, x: m.squeeze(m.expand_dims(x, (0, 2)), axis=2),
    "broadcast_to": lambda m, x: m.broadcast_to(x, (5, 2, 3, 4)),
    "broadcast_arrays": lambda m, x: m.broadcast_arrays(x, x[:, :1], x[0]),
    "atleast_1d": lambda m, x: m.atleast_1d(x[0, 0, 0]),
    "atleast_2d": lambda m, x: [m.atleast_2d(x[0, 0, 0]), m.atleast_2d(x[0, 0]), m.atleast_2d(x)],
    "atleast_3d": lambda m, x: [m.atleast_3d(x[0, 0, 0]), *m.atleast_3d(x[0, 0], x[0])],
    "flip": lambda m, x: m.flip(x),
    "flip axes": lambda m, x: m.flip(x, (0, -1)),
    "fliplr": lambda m, x: m.fliplr(x),
    "flipud": lambda m, x: m.flipud(x),
    "rot90": lambda m, x: [m.rot90(x, k) for k in range(-1, 4)],
    "rot90 of axes": lambda m, x: m.rot90(x, 1, (2, 0)),
    "copy": lambda m, x: m.copy(x),
    "concatenate": lambda m, x: m.concatenate([x, x[:1], x]),
    "concatenate along an axis": lambda m, x: m.concatenate([x, x[:, :0], x[:, 1:]], axis=-2),
    "concatenate flattened": lambda m, x: m.concatenate([x, x[0]], axis=None),
    "concatenate an array": lambda m, x: m.concatenate(x),
    "concatenate in a dtype": lambda m, x: m.concatenate([x, x], dtype="complex64"),
    "concat": lambda m, x: m.concat([x, x], axis=1),
    "stack": lambda m, x: m.stack([x, x]),
    "stack along an axis": lambda m, x: m.stack([x, x, x], axis=-2),
    "stack an array": lambda m, x: m.stack(x, axis=1),
    "vstack": lambda m, x: [m.vstack([x[0, 0], x[0]]), m.vstack([x[0, 0], x[0, 1]])],
    "hstack": lambda m, x: [m.hstack([x[0, 0], x[0, 1]]), m.hstack([x[0], x[1]])],
    "dstack": lambda m, x: [m.dstack([x[0, 0], x[0, 1]]), m.dstack([x[0], x[1]])],
    "column_stack": lambda m, x: m.column_stack([x[0, :, 0], x[0], x[1]]),
    "append": lambda m, x: [m.append(x, x[0]), m.append(x, x, axis=1)],
    "split": lambda m, x: m.split(x, 2, axis=2),
    "split at places": lambda m, x: m.split(x, [1, 3], axis=-1),
    "split at no places": lambda m, x: m.split(x, (), axis=2),
    "array_split": lambda m, x: m.array_split(x, 3, axis=2),
    "hsplit": lambda m, x: [*m.hsplit(x, 3), *m.hsplit(x[0, 0], 2)],
    "vsplit": lambda m, x: m.vsplit(x, 2),
    "dsplit": lambda m, x: m.dsplit(x, [1]),
    "unstack": lambda m, x: m.unstack(x, axis=1),
    "tile": lambda m, x: [m.tile(x, 2), m.tile(x, (2, 1, 1, 2)), m.tile(x[0], (3, 1))],
    "repeat": lambda m, x: [m.repeat(x, 2), m.repeat(x, 3, axis=1)],
    "repeat each": lambda m, x: m.repeat(x, np.array([1, 0, 2]), axis=1),
    "roll": lambda m, x: [m.roll(x, 2), m.roll(x, -1, axis=1), m.roll(x, (1, 5), axis=(0, 2))],
    "roll twice": lambda m, x: m.roll(x, 1, axis=(1, 1)),
    "diagonal": lambda m, x: [m.diagonal(x), m.diagonal(x, 1, 2, 0), m.diagonal(x, -1)],
    "diag": lambda m, x: [m.diag(x[0]), m.diag(x[0], 1), m.diag(x[0, 0]), m.diag(x[0, 0], -2)],
    "diagflat": lambda m, x: m.diagflat(x[0], 1),
    "tril": lambda m, x: [m.tril(x), m.tril(x, 1)],
    "triu": lambda m, x: [m.triu(x), m.triu(x, -1)],
    "trace": lambda m, x: [m.trace(x), m.trace(x, 1, 2, 1)],
    "block": lambda m, x: m.block([[x[0], x[1]], [x[1], x[0]]]),
    "block of scalars": lambda m, x: m.block([[x[0, 0, 0], x[0, 0]], [x[0, 1], x[0, 0, 1]]]),
    "resize": lambda m, x: [m.resize(x, (5, 7)), m.resize(x, 3)],
    "pad": lambda m, x: m.pad(x, 1),
}


@pytest.mark.parametrize("name", ONE)
def test_one(name, dtype, twins):

    twins.agree(lambda m, x: ONE[name](m, x), twins.sample(dtype, (2, 3, 4)))


@pytest.mark.parametrize(
    "name", [n for n in ONE if not n.startswith(("block", "concatenate in", "array_split"))]
)
def test_compiled_and_differentiated(name):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

    def flat(x):
        found = ONE[name](cnp, x)
        parts = found if isinstance(found, (list, tuple)) else [found]
        return cnp.concatenate([cnp.ravel(p) for p in parts])

    eager = flat(x)
    np.testing.assert_array_equal(cv.jit(flat)(x), eager)
    weights = np.arange(1, eager.size + 1, dtype=np.float32)
    slope = cv.grad(lambda x: (flat(x) * weights).sum())(x)
    step = np.zeros_like(x)
    step[1, 2, 1] = 1
    # These functions are linear.
    np.testing.assert_allclose(
        (np.asarray(flat(x + step)) - np.asarray(eager)) @ weights, slope[1, 2, 1], rtol=1e-4
    )


EMPTY = {
    "reshape": lambda m, x: m.reshape(x, (4, 0)),
    "ravel": lambda m, x: m.ravel(x),
    "concatenate": lambda m, x: m.concatenate([x, x], axis=1),
    "stack": lambda m, x: m.stack([x, x]),
    "flip": lambda m, x: m.flip(x),
    "tile": lambda m, x: m.tile(x, (2, 2)),
    "repeat": lambda m, x: m.repeat(x, 2, axis=1),
    "roll": lambda m, x: m.roll(x, 3),
    "split": lambda m, x: m.split(x, 3, axis=0),
    "diagonal": lambda m, x: m.diagonal(x),
    "tril": lambda m, x: m.tril(x),
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty(name, dtype, twins):
    twins.agree(lambda m, x: EMPTY[name](m, x), twins.sample(dtype, (3, 0)))


def test_mixed_dtypes(dtype, twins):
    x, y = twins.sample(dtype), twins.sample(np.float32)
    twins.agree(lambda m, x, y: m.concatenate([x, y]), x, y)
    twins.agree(lambda m, x, y: m.stack([x, y, y]), x, y)
    twins.agree(lambda m, x: m.append(x, 1.5), x, values="jax")


def test_traced_shifts_and_counts():
    x = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    rolled = cv.jit(lambda x, k: cnp.roll(x, k, axis=1))(x, 3)
    np.testing.assert_array_equal(rolled, np.roll(x, 3, 1))
    repeat = cv.jit(lambda x, k: cnp.repeat(x, k, axis=0, total_repeat_length=5))
    for counts in ([1, 2, 2], [0, 1, 1], [3, 3, 3]):
        counts = np.array(counts)
        expected = jax.numpy.repeat(x, counts, axis=0, total_repeat_length=5)
        np.testing.assert_array_equal(repeat(x, counts), expected)
    with pytest.raises(ConcretizationTypeError, match="total_repeat_length"):
        cv.jit(lambda x, k: cnp.repeat(x, k))(x, 3)


def test_shapes_broadcast():
    assert cnp.broadcast_shapes((2, 1), (3,), 1) == (2, 3)
    with pytest.raises(ValueError, match="broadcast"):
        cnp.broadcast_shapes((2,), (3,))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.reshape(x, (5, 5)), TypeError, "12 elements"),
        (lambda x: cnp.reshape(x, (-1, -1)), ValueError, "-1"),
        (lambda x: cnp.reshape(x[:0], (0, -1)), TypeError, "0 elements"),
        (lambda x: cnp.reshape(x, (-2, 6)), ValueError, "negative"),
        (lambda x: cnp.transpose(x, (0, 0)), ValueError, "permutation"),
        (lambda x: cnp.squeeze(x, 0), ValueError, "size 3"),
        (lambda x: cnp.broadcast_to(x, (2, 4)), ValueError, "broadcast"),
        (lambda x: cnp.concatenate([]), ValueError, "at least one"),
        (lambda x: cnp.concatenate([x, x[0]]), (TypeError, ValueError), "rank|axes|dimension"),
        (lambda x: cnp.stack([x, x[0]]), ValueError, "one shape"),
        (lambda x: cnp.split(x, 5), ValueError, "5 equal parts"),
        (lambda x: cnp.concatenate([1, 2]), ValueError, "stack"),
        (lambda x: cnp.unstack(x[0, 0]), ValueError, "at least one axis"),
        (lambda x: cnp.matrix_transpose(x[0]), ValueError, "two axes"),
        (lambda x: cnp.block([x, [x]]), ValueError, "depth"),
        (lambda x: cnp.roll(x, (1, 2, 3), axis=(0, 1)), ValueError, "one shift"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((3, 4), np.float32))
