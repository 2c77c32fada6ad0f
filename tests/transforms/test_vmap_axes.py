"""Where batch axes may stand: `in_axes`, `out_axes`, pytrees, sizes; against JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

OURS = SimpleNamespace(np=cnp, vmap=cv.vmap, jit=cv.jit, grad=cv.grad)
THEIRS = SimpleNamespace(np=jax.numpy, vmap=jax.vmap, jit=jax.jit, grad=jax.grad)

X = np.arange(6.0, dtype=np.float32).reshape(2, 3)
V2, V3 = np.arange(2.0, dtype=np.float32), np.arange(3.0, dtype=np.float32)


class Pair(NamedTuple):
    u: Any
    v: Any


@jax.tree_util.register_dataclass
@cv.tree_util.register_dataclass
@dataclass
class Record:
    u: Any
    v: Any


def parts(record: Any) -> Any:
    return record.u, record.v


CASES: dict[str, Callable[[Any], Any]] = {
    "negative": lambda api: api.vmap(lambda a: a * 2, in_axes=-1, out_axes=-1)(X),
    "negative_in": lambda api: api.vmap(lambda a: a.sum(), in_axes=-2)(X),
    "negative_out": lambda api: api.vmap(lambda a: api.np.outer(a, a), out_axes=-2)(X),
    "swap": lambda api: api.vmap(lambda a: a, in_axes=1, out_axes=0)(X),
    "dict": lambda api: api.vmap(lambda d: d["a"] + d["b"], in_axes=({"a": None, "b": 0},))(
        {"a": 1.0, "b": V3}),
    "out_dict": lambda api: api.vmap(lambda a: {"p": a, "q": a * 2}, out_axes={"p": 0, "q": 1})(X),
    "out_prefix": lambda api: api.vmap(lambda a: {"p": (a, a * 2), "q": a},
                                       out_axes={"p": 1, "q": 0})(X),
    "out_none": lambda api: api.vmap(lambda a, b: (a + b, b * 2), in_axes=(0, None),
                                     out_axes=(0, None))(X, 3.0),
    "out_broadcast": lambda api: api.vmap(lambda a, b: (a + b, b * 2), in_axes=(0, None))(X, 3.0),
    "out_broadcast_last": lambda api: api.vmap(lambda a, b: b * 2, in_axes=(0, None),
                                               out_axes=-1)(X, V2),
    "out_list": lambda api: api.vmap(lambda a: [a, a], out_axes=[0, 1])(X),
    "in_list": lambda api: api.vmap(lambda a, b: a + b, in_axes=[0, None])(X, 1.0),
    "in_nested_list": lambda api: api.vmap(lambda a: a[0] + a[1], in_axes=([0, None],))([V2, 1.0]),
    "prefix_none": lambda api: api.vmap(lambda a, b: a[0] * b, in_axes=(None, 0))((2.0, 3.0), V2),
    "prefix_zero": lambda api: api.vmap(lambda a: a["k"][0] * a["l"], in_axes=(0,))(
        {"k": [V2], "l": X}),
    "namedtuple": lambda api: tuple(api.vmap(
        lambda p: Pair(p.u + p.v, p.v), in_axes=(Pair(0, None),), out_axes=Pair(0, None)
    )(Pair(V2, 3.0))),
    "dataclass": lambda api: parts(api.vmap(lambda p: Record(p.u + p.v, p.v * 2),
                                            in_axes=(Record(0, None),),
                                            out_axes=Record(0, None))(Record(V2, 3.0))),
    "all_none_size": lambda api: api.vmap(lambda a: a * 2, in_axes=None, axis_size=3)(2.0),
    "all_none_size_out": lambda api: api.vmap(lambda a: a * 2, in_axes=None, out_axes=None,
                                              axis_size=3)(V2),
    "no_arguments": lambda api: api.vmap(lambda: 1.0, axis_size=2)(),
    "size_given": lambda api: api.vmap(lambda a: a, axis_size=2)(X),
    "keyword": lambda api: api.vmap(lambda a, *, b: a + b)(V2, b=V2),
    "keyword_in_axes": lambda api: api.vmap(lambda a, *, b: a + b, in_axes=(None,))(1.0, b=V2),
    "keyword_tree": lambda api: api.vmap(lambda a, *, b: a + b["k"], in_axes=None)(
        1.0, b={"k": V2}),
    "keyword_only": lambda api: api.vmap(lambda a, b: a + b)(a=V2, b=V2),
    "none_argument": lambda api: api.vmap(lambda a, b: a, in_axes=(0, 0))(V2, None),
    "none_output": lambda api: api.vmap(lambda a: (a, None), out_axes=(0, 0))(V2),
    "constant": lambda api: api.vmap(lambda a: 3)(V2),
    "constant_none": lambda api: api.vmap(lambda a: 3, out_axes=None)(V2),
    "static": lambda api: api.vmap(lambda a, b: a if b == "x" else -a, in_axes=(0, None))(V2, "x"),
    "empty": lambda api: api.vmap(lambda a: (a.sum(), 1.0))(np.ones((0, 3), np.float32)),
    "empty_size": lambda api: api.vmap(lambda: 1.0, axis_size=0)(),
    "partial": lambda api: api.vmap(partial(lambda a, b: a + b, 1.0))(V2),
    "varargs": lambda api: api.vmap(lambda *a: sum(a), in_axes=(0, None, 0))(V2, 1.0, V2),
    "nested": lambda api: api.vmap(api.vmap(lambda a, b: a * b, in_axes=(None, 0)),
                                   in_axes=(0, None), out_axes=1)(V2, V3),
    "jit": lambda api: api.jit(api.vmap(lambda a, b: a @ b, in_axes=(0, 1), out_axes=-1))(X, X.T),
    "grad": lambda api: api.grad(lambda x: (api.vmap(
        lambda a, b: a * a * b, in_axes=(-1, None), out_axes=1)(x, 2.0) * X).sum())(X),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_axes(name: str) -> None:
    ours, theirs = CASES[name](OURS), CASES[name](THEIRS)
    a, tree = jax.tree.flatten(cv.tree.map(np.asarray, ours))
    b, their_tree = jax.tree.flatten(theirs)
    assert tree == their_tree
    for x, y in zip(a, b, strict=True):
        y = np.asarray(y)
        assert x.shape == y.shape
        assert x.dtype == y.dtype or name in ("constant_none",)
        np.testing.assert_array_equal(x, y)


BAD: dict[str, tuple[Callable[[Any], Any], str]] = {
    "out_of_range": (lambda v: v(lambda a: a, in_axes=2)(X), "axis 2 of an argument"),
    "out_of_range_negative": (lambda v: v(lambda a: a, in_axes=-3)(X), r"f32\[2,3\], which has 2"),
    "scalar": (lambda v: v(lambda a: a)(1.0), "use None"),
    "list_of_numbers": (lambda v: v(lambda a: a[0])([1.0, 2.0]), "has 0 axes"),
    "dict_alone": (lambda v: v(lambda d: d["a"], in_axes={"a": 0})({"a": V2}), "in_axes must be"),
    "out_none": (lambda v: v(lambda a: a, out_axes=None)(X), "out_axes is None for an output"),
    "out_structure": (lambda v: v(lambda a: [a, a], out_axes=(0, 1))(X), "out_axes does not fit"),
    "out_too_many": (lambda v: v(lambda a: (a, a), out_axes=(0, 1, 0))(X), "tuple of 3"),
    "out_range": (lambda v: v(lambda a: a.sum(), out_axes=1)(X), "axis 1 of an output with 1 axes"),
    "out_range_neg": (lambda v: v(lambda a: a.sum(), out_axes=-2)(X), "axis -2 of an output"),
    "out_text": (lambda v: v(lambda a: a, out_axes="a")(X), "out_axes must be"),
    "in_text": (lambda v: v(lambda a: a, in_axes="a")(X), "in_axes must be"),
    "in_float": (lambda v: v(lambda a: a, in_axes=0.0)(X), "in_axes must be"),
    "in_bool": (lambda v: v(lambda a: a, in_axes=True)(X), "in_axes must be"),
    "in_nested_text": (lambda v: v(lambda a: a, in_axes=("a",))(X), "in_axes must be"),
    "count": (lambda v: v(lambda a, b: a, in_axes=(0,))(X, 1.0), "1 entries but"),
    "all_none": (lambda v: v(lambda a: a, in_axes=None)(X), "no argument has a batch axis"),
    "no_arguments": (lambda v: v(lambda: 1.0)(), "give axis_size"),
    "sizes": (lambda v: v(lambda a, b: a)(V2, V3), r"args\[0\] f32\[2\](.|\n)*args\[1\] f32\[3\]"),
    "axis_size": (lambda v: v(lambda a: a, axis_size=4)(V2), "axis_size=4"),
    "keyword_size": (lambda v: v(lambda a, b: a)(V3, b=V2), r"kwargs\['b'\] f32\[2\]"),
    "text_output": (lambda v: v(lambda a: "x")(V2), "output of <lambda> must consist of arrays"),
    "text_input": (lambda v: v(lambda a, b: a)(V2, "x"), "batched arguments must consist of"),
    "no_function": (lambda v: v(3), "expects a function"),
    "size_negative": (lambda v: v(lambda: 1.0, axis_size=-1)(), "axis_size must be"),
    "name": (lambda v: v(lambda a: a, axis_name=[1])(X), "unhashable"),
    "prefix": (lambda v: v(lambda a: a, in_axes=((0, 0),))((X, X, X)), "in_axes does not"),
    "prefix_keys": (lambda v: v(lambda a: a, in_axes=({"a": 0},))({"b": X}), "in_axes does not"),
    "dataclass": (lambda v: v(parts, in_axes=(Record(0, None),))((V2, 2.0)), "in_axes does not"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_errors(name: str) -> None:
    """The exceptions are JAX's, except where JAX fails by accident."""
    run, words = BAD[name]
    with pytest.raises((TypeError, ValueError), match=words) as ours:
        run(cv.vmap)
    if name == "axis_size":
        return
    with pytest.raises((TypeError, ValueError)) as theirs:
        run(jax.vmap)
    assert isinstance(ours.value, theirs.type), (ours.type, theirs.type)


def test_axes_of_devices_are_refused() -> None:
    with pytest.raises(NotImplementedError, match=r"spmd_axis_name(.|\n)*axis_name names the axis"):
        cv.vmap(lambda a: a, spmd_axis_name="i")


def test_numpy_arguments_become_arrays_only_where_batched() -> None:
    def f(a: Any, b: Any) -> Any:
        assert isinstance(a, cv.Array)
        assert type(b) is np.ndarray
        return a + b

    cv.vmap(f, in_axes=(0, None))(V2, V3)
    assert isinstance(cv.vmap(lambda a: a)(V2), cv.Array)
