"""Collective operations over named batch axes: values and derivatives against JAX."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax, random
from covector.core.parsing import parse

OURS = SimpleNamespace(np=cnp, lax=lax, jit=cv.jit, grad=cv.grad, vmap=cv.vmap, jvp=cv.jvp,
                       linearize=cv.linearize, custom_jvp=cv.custom_jvp, custom_vjp=cv.custom_vjp,
                       checkpoint=lambda f: f)  # fmt: skip
THEIRS = SimpleNamespace(np=jax.numpy, lax=jax.lax, jit=jax.jit, grad=jax.grad, vmap=jax.vmap,
                         jvp=jax.jvp, linearize=jax.linearize, custom_jvp=jax.custom_jvp,
                         custom_vjp=jax.custom_vjp, checkpoint=lambda f: f)  # fmt: skip

X = np.array([[0.3, -1.2, 0.7], [1.1, 0.4, -0.6], [-0.2, 0.9, 0.5]])
"""Three examples of three numbers, so that every exchange of axes fits."""


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with cv.enable_x64(), jax.enable_x64(True):
        yield


def named(api: Any, f: Callable[..., Any], **options: Any) -> Any:
    return api.vmap(lambda x: f(api, x), axis_name="i", **options)


def same(ours: Any, theirs: Any) -> None:
    a, tree = jax.tree.flatten(jax.tree.map(lambda x: x, cv.tree.map(np.asarray, ours)))
    b, their_tree = jax.tree.flatten(theirs)
    assert tree == their_tree
    for x, y in zip(a, b, strict=True):
        y = np.asarray(y)
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-12)


# --- each operation -----------------------------------------------------------------------------

RING = [(0, 1), (1, 2), (2, 0)]

OPERATIONS: dict[str, Callable[..., Any]] = {
    "psum": lambda api, x: api.lax.psum(x, "i"),
    "psum_tree": lambda api, x: api.lax.psum({"a": x, "b": (x[0], x > 0.0)}, "i"),
    "psum_of_same": lambda api, x: api.lax.psum(api.np.ones(2), "i") + x[:2],
    "psum_positions": lambda api, x: api.lax.psum(x, (0, "i")),
    "psum_no_names": lambda api, x: api.lax.psum(x, ()),
    "pmean": lambda api, x: api.lax.pmean(x, "i"),
    "pmean_integers": lambda api, x: api.lax.pmean((x > 0.0).astype(int), ("i",)),
    "pmax": lambda api, x: api.lax.pmax(x, "i"),
    "pmin": lambda api, x: api.lax.pmin({"a": x, "b": x > 0.0}, "i"),
    "pmax_positions": lambda api, x: api.lax.pmax(x, ("i", 0)),
    "axis_index": lambda api, x: api.lax.axis_index("i"),
    "axis_size": lambda api, x: x * api.lax.axis_size("i"),
    "all_gather": lambda api, x: api.lax.all_gather(x, "i"),
    "all_gather_last": lambda api, x: api.lax.all_gather((x, x[0]), "i", axis=-1),
    "all_gather_tiled": lambda api, x: api.lax.all_gather(x, "i", tiled=True),
    "all_gather_tiled_1": lambda api, x: api.lax.all_gather(
        x[:, None] * x, "i", axis=1, tiled=True
    ),
    "all_gather_same": lambda api, x: api.lax.all_gather(api.np.arange(2.0), "i", axis=1),
    "ppermute": lambda api, x: api.lax.ppermute(x, "i", RING),
    "ppermute_swap": lambda api, x: api.lax.ppermute(x, "i", [(0, 2), (1, 1), (2, 0)]),
    "pshuffle": lambda api, x: api.lax.pshuffle([x, 2.0 * x], "i", [2, 0, 1]),
    "pswapaxes": lambda api, x: api.lax.pswapaxes(x, "i", 0),
    "all_to_all": lambda api, x: api.lax.all_to_all(x[:, None] * x[:2], "i", 0, 1),
    "all_to_all_back": lambda api, x: api.lax.all_to_all(x[:2, None] * x, "i", 1, 0),
    "all_to_all_same": lambda api, x: api.lax.all_to_all(x[:, None] * x, "i", 1, 1),
    "all_to_all_tiled": lambda api, x: api.lax.all_to_all(
        api.np.tile(x, 2)[:, None] * x[:2], "i", 0, 1, tiled=True
    ),
    "all_to_all_tiled_same": lambda api, x: api.lax.all_to_all(
        api.np.tile(x, 2), "i", 0, 0, tiled=True
    ),
    "psum_scatter": lambda api, x: api.lax.psum_scatter(x, "i"),
    "psum_scatter_1": lambda api, x: api.lax.psum_scatter(x[:2, None] * x, "i",
                                                          scatter_dimension=1),
    "psum_scatter_tiled": lambda api, x: api.lax.psum_scatter(
        api.np.tile(x, 2), "i", tiled=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation(name: str) -> None:
    f = OPERATIONS[name]
    expected = jax.jit(named(THEIRS, f))(X)
    same(named(OURS, f)(X), expected)
    same(cv.jit(named(OURS, f))(X), expected)
    same(cv.vmap(cv.jit(lambda x: f(OURS, x)), axis_name="i")(X), expected)
    # Seen from another batch axis, outside and inside.
    twice = np.stack([X, 2.0 * X, X - 1.0, X + 0.5])
    expected = jax.jit(jax.vmap(named(THEIRS, f)))(twice)
    same(cv.vmap(named(OURS, f))(twice), expected)
    inner = cv.vmap(cv.vmap(lambda x: f(OURS, x)), axis_name="i", in_axes=1)
    same(cv.vmap(lambda y: y)(cv.tree.map(lambda y: cnp.moveaxis(y, 0, 1), inner(twice))), expected)


# JAX's pmax has no derivative, and its all_to_all a wrong one where an axis moves.
NO_DERIVATIVE = ("pmax", "pmin", "axis_index", "pmean_integers", "all_to_all", "all_to_all_back")
DIFFERENTIABLE = [k for k in OPERATIONS if k not in NO_DERIVATIVE + ("pmax_positions",)]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_derivatives_of_operation(name: str) -> None:
    def loss(api: Any, x: Any) -> Any:
        outs = jax.tree.leaves(OPERATIONS[name](api, x), is_leaf=lambda t: hasattr(t, "dtype"))
        leaves = api.np.concatenate([api.np.ravel(y) * 1.0 for y in outs])
        weights = 1.0 + api.np.arange(leaves.shape[0]) + api.lax.axis_index("i")
        return (api.np.sin(leaves) * weights).sum()

    def everything(api: Any, x: Any) -> Any:
        one = api.vmap(api.grad(lambda y: loss(api, y)), axis_name="i")(x)
        whole = api.grad(lambda y: named(api, loss)(y).sum())(x)
        forward = named(api, lambda api, y: api.jvp(lambda z: loss(api, z), (y,), (y * y,))[1])(x)
        second = api.jvp(api.grad(lambda y: named(api, loss)(y).sum()), (x,), (x * 2.0,))[1]
        return one, whole, forward, second

    expected = jax.jit(lambda x: everything(THEIRS, x))(X)
    same(everything(OURS, cnp.asarray(X)), expected)
    same(cv.jit(lambda x: everything(OURS, x))(X), expected)


def test_derivative_of_extrema() -> None:
    """Beyond JAX, whose pmax has none: that of the reduction it stands for."""

    def through_max(x: Any) -> Any:
        return cv.vmap(lambda y: cnp.sin(lax.pmax(y, "i")) * y - lax.pmin(y, "i"), axis_name="i")(x)

    def reference(x: Any) -> Any:
        return cnp.sin(x.max(0)) * x - x.min(0)

    x = cnp.asarray(X)
    weights = cnp.arange(9.0).reshape(3, 3)
    expected = cv.grad(lambda x: (reference(x) * weights).sum())(x)
    same(cv.grad(lambda x: (through_max(x) * weights).sum())(x), expected)
    per_example = cv.vmap(cv.grad(lambda y: lax.pmax(y, "i")), axis_name="i")(
        cnp.array([1.0, 3.0, 3.0])
    )
    np.testing.assert_allclose(per_example, [0.0, 1.5, 1.5])


def test_all_to_all_and_pbroadcast_by_gathering() -> None:
    def by_gathering(x: Any) -> Any:
        gathered = lax.all_gather(x, "i")
        return gathered[:, :, lax.axis_index("i")] * gathered[1, 0][:, None]

    def directly(x: Any) -> Any:
        return lax.all_to_all(x, "i", 1, 0) * lax.pbroadcast(x[0], "i", 1)[:, None]

    def everything(f: Any, x: Any) -> Any:
        whole = cv.vmap(lambda y: cnp.sin(f(y)), axis_name="i")
        loss = cv.vmap(cv.grad(lambda y: cnp.sin(f(y)).sum()), axis_name="i")
        weights = cnp.arange(18.0).reshape(3, 3, 2)
        return whole(x), loss(x), cv.grad(lambda y: (whole(y) * weights).sum())(x)

    x = cnp.sin(cnp.arange(18.0)).reshape(3, 2, 3)
    same(everything(directly, x), cv.tree.map(np.asarray, everything(by_gathering, x)))


# --- where they may stand -----------------------------------------------------------------------


def in_scan(api: Any, x: Any) -> Any:
    def body(carry: Any, t: Any) -> Any:
        carry = carry + 0.1 * api.np.sin(api.lax.psum(carry, "i") * t) * x
        return carry, api.lax.ppermute(carry, "i", RING) * t

    final, ys = api.lax.scan(body, x, api.np.linspace(0.1, 1.0, 4))
    return final.sum() + (ys**2).sum()


def in_unbatched_scan(api: Any, x: Any) -> Any:
    """No operand of the scan has the batch axis; what it does with the index has."""

    def body(carry: Any, t: Any) -> Any:
        return carry + t * api.lax.axis_index("i"), api.lax.psum(t, "i")

    final, ys = api.lax.scan(body, 1.0, api.np.linspace(0.1, 1.0, 4))
    return (x * final).sum() + ys.sum()


def in_while(api: Any, x: Any) -> Any:
    def going(state: Any) -> Any:
        return api.lax.pmax(api.np.abs(state[0]).max(), "i") < 50.0

    def step(state: Any) -> Any:
        y, k = state
        return y * 1.5 + 0.1 * api.lax.pmean(y, "i"), k + 1

    # Only forward-mode derivatives of unbounded loops exist in JAX.
    y, k = api.lax.while_loop(going, step, (x, 0))
    return y.sum() + k


def in_batched_while(api: Any, x: Any) -> Any:
    def step(state: Any) -> Any:
        return state * 1.5 + 0.1 * api.lax.psum(x, "i")[0]

    return api.lax.while_loop(lambda s: api.np.abs(s) < 10.0, step, x[0] + 2.0)


def in_fori(api: Any, x: Any) -> Any:
    def step(k: Any, y: Any) -> Any:
        return y + api.lax.axis_index("i") * k - 0.1 * api.lax.pmean(y, "i")

    return api.lax.fori_loop(0, 3, step, x).sum()


def in_cond(api: Any, x: Any) -> Any:
    gathered = api.lax.psum(x, "i")
    y = api.lax.cond(gathered[0] > 0.5, lambda v: v * api.lax.psum(v, "i"), lambda v: v**2, x)
    return (y * x).sum()


def in_batched_cond(api: Any, x: Any) -> Any:
    y = api.lax.cond(x[0] > 0.2, lambda v: api.lax.psum(v, "i") * v, lambda v: 3.0 * v, x)
    return (y * x).sum()


def in_unbatched_cond(api: Any, x: Any) -> Any:
    y = api.lax.cond(
        api.np.asarray(True), lambda: api.lax.axis_index("i") + 1, lambda: api.lax.axis_index("i")
    )
    return (y * x).sum()


def in_jit(api: Any, x: Any) -> Any:
    inner = api.jit(lambda y, z: api.np.cos(api.lax.psum(y, "i")) * z + api.lax.axis_index("i"))
    return inner(x, x * 2.0).sum() + (inner(1.0, 2.0) * x).sum()


def in_custom_jvp(api: Any, x: Any) -> Any:
    @api.custom_jvp
    def f(y: Any) -> Any:
        return y**2 + api.lax.axis_index("i")

    @f.defjvp
    def f_jvp(primals: Any, tangents: Any) -> Any:
        (y,), (t,) = primals, tangents
        return f(y), 3.0 * api.np.sin(y) * api.lax.psum(t, "i")

    return (f(x) * x).sum()


def in_custom_vjp(api: Any, x: Any) -> Any:
    @api.custom_vjp
    def f(y: Any) -> Any:
        return y**2 * api.lax.axis_index("i")

    def forward(y: Any) -> Any:
        return f(y), api.lax.psum(y, "i")

    def backward(total: Any, ct: Any) -> Any:
        return (total * ct + api.lax.axis_index("i"),)

    f.defvjp(forward, backward)
    return (f(x) * x).sum()


PLACES = (in_scan, in_unbatched_scan, in_while, in_batched_while, in_fori, in_cond, in_batched_cond,
          in_unbatched_cond, in_jit, in_custom_jvp, in_custom_vjp)  # fmt: skip
NOT_REVERSIBLE = (in_while, in_batched_while)
NO_FORWARD = (in_custom_vjp,)
# The examples that do not take a branch take part in its sums; with what, is not defined.
NOT_PER_EXAMPLE = (in_batched_cond,)


@pytest.mark.parametrize("f", PLACES, ids=lambda f: f.__name__)
def test_place(f: Any) -> None:
    def everything(api: Any, x: Any) -> Any:
        outs = [named(api, f)(x)]
        if f not in NO_FORWARD:
            pushed = named(api, lambda api, y: api.jvp(lambda z: f(api, z), (y,), (y * y,)))(x)
            outs.append(pushed[1])
            outs.append(api.jvp(named(api, f), (x,), (x * x,))[1])
        if f not in NOT_REVERSIBLE:
            outs.append(api.grad(lambda y: named(api, f)(y).sum())(x))
        if f not in NOT_REVERSIBLE + NOT_PER_EXAMPLE:
            outs.append(api.vmap(api.grad(lambda y: f(api, y)), axis_name="i")(x))
            outs.append(api.vmap(api.jit(api.grad(lambda y: f(api, y))), axis_name="i")(x))
        return outs

    expected = jax.jit(lambda x: everything(THEIRS, x))(X)
    same(everything(OURS, cnp.asarray(X)), expected)
    same(cv.jit(lambda x: everything(OURS, x))(X), expected)
    same(cv.jit(lambda x: everything(OURS, x), backend="reference")(X), expected)


def test_linearize_inside() -> None:
    def f(api: Any, x: Any) -> Any:
        y, push = api.linearize(lambda z: api.np.sin(api.lax.psum(z, "i")) * z, x)
        return y, push(x * 2.0)

    same(named(OURS, f)(X), jax.jit(named(THEIRS, f))(X))


# --- several names ------------------------------------------------------------------------------

Y = np.linspace(-1.0, 1.0, 36).reshape(2, 3, 6)


def both(api: Any, f: Any) -> Any:
    return api.vmap(api.vmap(lambda x: f(api, x), axis_name="j"), axis_name="i")


@pytest.mark.parametrize(
    "f",
    [
        lambda api, x: api.lax.psum(x, ("i", "j")),
        lambda api, x: api.lax.psum(x, "i") * api.lax.pmax(x, "j"),
        lambda api, x: api.lax.pmean(x, ["j", "i"]),
        lambda api, x: api.lax.axis_index(("i", "j")) + 10 * api.lax.axis_index(("j", "i")),
        lambda api, x: x * api.lax.axis_size(("i", "j")) * api.lax.psum(1, ("j", "i")),
        lambda api, x: api.lax.all_to_all(x, ("i", "j"), 0, 0),
        lambda api, x: api.lax.all_to_all(x[:, None] * x[:2], ("i", "j"), 0, 1, tiled=True),
        lambda api, x: api.lax.all_gather(api.lax.ppermute(x, "i", [(0, 1), (1, 0)]), "j"),
        lambda api, x: api.lax.psum_scatter(x.reshape(2, 3), "j", scatter_dimension=1),
    ],
)
def test_nested_names(f: Any) -> None:
    expected = jax.jit(both(THEIRS, f))(Y)
    same(both(OURS, f)(Y), expected)
    same(cv.jit(both(OURS, f))(Y), expected)


def test_products_of_names_that_jax_has_only_on_devices() -> None:
    gathered = both(OURS, lambda api, x: lax.all_gather(x, ("i", "j")))(Y)
    np.testing.assert_allclose(gathered[1, 2], Y.reshape(6, 6))
    gathered = both(OURS, lambda api, x: lax.all_gather(x, ("j", "i"), axis=1, tiled=False))(Y)
    np.testing.assert_allclose(gathered[0, 1], Y.transpose(2, 1, 0).reshape(6, 6))
    scattered = both(OURS, lambda api, x: lax.psum_scatter(x, ("i", "j"), tiled=True))(Y)
    np.testing.assert_allclose(scattered, Y.sum((0, 1)).reshape(2, 3, 1))


def test_inner_axis_of_the_same_name_wins() -> None:
    def f(api: Any, x: Any) -> Any:
        return api.lax.psum(x, "i"), api.lax.axis_index("i"), x * api.lax.axis_size("i")

    def nested(api: Any) -> Any:
        return api.vmap(api.vmap(lambda x: f(api, x), axis_name="i"), axis_name="i")

    same(nested(OURS)(Y), jax.jit(nested(THEIRS))(Y))


# --- constants, sizes, and what depends on them -------------------------------------------------


def test_constants_stay_constants() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.extend([lax.psum(2, "i"), lax.psum(2.5, "i"), lax.pmean(3, "i"), lax.axis_size("i")])
        seen.append(lax.psum(2, "i", axis_index_groups=[[0, 2], [1, 3]]))
        assert isinstance(lax.psum(cnp.ones(2), "i"), cv.Array)
        assert lax.psum(True, "i").dtype == np.int32
        return cnp.zeros(lax.psum(1, "i")) + x

    assert cv.vmap(f, axis_name="i")(cnp.ones(4)).shape == (4, 4)
    assert seen == [8, 10.0, 3.0, 4, 4]
    assert [type(s) for s in seen] == [int, float, float, int, int]
    cv.vmap(cv.jit(f), axis_name="i")(cnp.ones(4))
    assert seen[5:] == [8, 10.0, 3.0, 4, 4]


def test_what_is_the_same_for_all_needs_no_axis() -> None:
    outs = cv.vmap(
        lambda x: (lax.psum(x, "i"), lax.psum(2.5, "i"), lax.all_gather(x, "i")),
        axis_name="i",
        out_axes=None,
    )(cnp.arange(3.0))
    same(outs, (np.asarray(3.0), np.asarray(7.5), np.arange(3.0)))


def test_jitted_functions_are_traced_anew_for_other_axes() -> None:
    traces: list[int] = []

    @cv.jit
    def f(x: Any) -> Any:
        traces.append(lax.axis_size("i"))
        return x * lax.axis_size("i") + lax.psum(x, "i")

    run = cv.vmap(f, axis_name="i")
    for _ in range(2):
        np.testing.assert_allclose(run(cnp.ones(3)), [6.0] * 3)
        np.testing.assert_allclose(run(cnp.ones(5)), [10.0] * 5)
    assert traces == [3, 5]
    with pytest.raises(NameError, match="unbound axis name"):
        f(1.0)
    with pytest.raises(NameError, match="unbound axis name"):
        cv.vmap(f, axis_name="j")(cnp.ones(3))
    np.testing.assert_allclose(run(cnp.ones(3)), [6.0] * 3)


def test_scan_bodies_are_traced_anew_for_other_axes() -> None:
    def body(carry: Any, t: Any) -> Any:
        return carry + lax.psum(t, "i"), None

    def total(xs: Any) -> Any:
        return lax.scan(body, 0.0, xs)[0]

    for count in (2, 3, 2):
        xs = cnp.ones((count, 4))
        np.testing.assert_allclose(cv.vmap(total, axis_name="i")(xs), [4.0 * count] * count)


def test_programs() -> None:
    program = cv.make_program(cv.vmap(lambda x: lax.psum(x, "i"), axis_name="i"))(X)
    assert "psum" not in str(program)
    assert "reduce_sum" in str(program)
    inside: list[Any] = []

    def f(x: Any) -> Any:
        inside.append(cv.make_program(lambda y: lax.ppermute(lax.psum(y, "i"), "i", RING))(x))
        inside.append(cv.make_program(lambda: lax.axis_index("i"))())
        return x

    cv.vmap(f, axis_name="i")(X)
    for program in inside:
        text = program.as_text()
        assert parse(text).as_text() == text
        with pytest.raises(NameError, match="unbound axis name 'i'"):
            cv.core.interpret.run(program, *[X[0]] * len(program.inputs))


def test_permutations() -> None:
    x = cnp.arange(20.0).reshape(20, 1)
    rng = np.random.default_rng(0)
    for order in (rng.permutation(20), np.roll(np.arange(20), 3), np.arange(20)):
        perm = [(int(s), d) for d, s in enumerate(order)]
        moved = cv.vmap(lambda v, perm=perm: lax.ppermute(v, "i", perm), axis_name="i")(x)
        np.testing.assert_array_equal(moved, x[order])
        some = perm[::2]
        expected = np.zeros((20, 1))
        for source, target in some:
            expected[target] = x[source]
        partly = cv.vmap(lambda v, perm=some: lax.ppermute(v, "i", perm), axis_name="i")
        np.testing.assert_array_equal(partly(x), expected)
        pulled = cv.grad(lambda v, partly=partly: (partly(v) * x).sum())(x)
        expected = np.zeros((20, 1))
        for source, target in some:
            expected[source] = x[target]
        np.testing.assert_array_equal(pulled, expected)
    same_for_all = cv.vmap(
        lambda v: lax.ppermute(cv.jit(cnp.sin)(1.0), "i", [(0, 1)]) + 0 * v, axis_name="i"
    )(cnp.zeros(3))
    np.testing.assert_allclose(same_for_all, [0.0, np.sin(1.0), 0.0])
    assert cv.vmap(lambda v: lax.ppermute(v, "i", []), axis_name="i")(cnp.zeros((0, 2))).shape == (
        0,
        2,
    )


def test_any_hashable_object_is_a_name() -> None:
    name = ("batch", 1)

    def f(x: Any) -> Any:
        return lax.psum(x, (name,)) + lax.axis_index([name])

    np.testing.assert_allclose(cv.vmap(f, axis_name=name)(cnp.ones(2)), [2.0, 3.0])


def test_keys_can_be_exchanged() -> None:
    keys = random.split(random.key(0), 3)
    moved = cv.vmap(lambda k: lax.pshuffle(k, "i", [1, 2, 0]), axis_name="i")(keys)
    np.testing.assert_array_equal(
        random.key_data(moved), random.key_data(keys)[np.array([1, 2, 0])]
    )


# --- errors -------------------------------------------------------------------------------------

X1 = np.ones((3, 4))
BAD: list[tuple[str, Callable[[Any], Any], type, str]] = [
    ("unbound", lambda x: lax.psum(x, "k"), NameError, r"unbound axis name: 'k'(.|\n)*'i'"),
    ("unbound_index", lambda x: lax.axis_index("k"), NameError, "unbound axis name: 'k'"),
    ("unbound_size", lambda x: lax.axis_size(("i", "k")), NameError, "unbound axis name: 'k'"),
    ("unbound_gather", lambda x: lax.all_gather(x, "k"), NameError, "unbound axis name: 'k'"),
    ("twice", lambda x: lax.psum(x, ("i", "i")), ValueError, "must differ"),
    ("position", lambda x: lax.psum(x, 3), ValueError, "axis 3 is out of bounds"),
    ("named_only", lambda x: lax.all_gather(x, 0), TypeError, "not positions"),
    ("gather_axis", lambda x: lax.all_gather(x, "i", axis=2), ValueError, "out of bounds"),
    ("tiled_axis", lambda x: lax.all_gather(x, "i", axis=1, tiled=True), ValueError, "out of bou"),
    ("split", lambda x: lax.all_to_all(x, "i", 0, 0), ValueError, "must equal"),
    ("split_tiled", lambda x: lax.all_to_all(x, "i", 0, 0, tiled=True), ValueError, "divisible"),
    ("swap", lambda x: lax.pswapaxes(x, "i", 0), ValueError, r"f32\[4\], and size 3"),
    ("scatter", lambda x: lax.psum_scatter(x, "i"), ValueError, "must equal"),
    ("unique", lambda x: lax.ppermute(x, "i", [(0, 1), (2, 1)]), ValueError, "unique"),
    ("range", lambda x: lax.ppermute(x, "i", [(0, 3)]), IndexError, "size 3"),
    ("two_names", lambda x: lax.ppermute(x, ("i", ()), []), NameError, "unbound"),
    ("no_perm", lambda x: lax.pshuffle(x, "i", [0, 0, 1]), ValueError, "no permutation"),
    ("source", lambda x: lax.pbroadcast(x, "i", 3), IndexError, "out of range"),
    ("groups", lambda x: lax.psum(x, "i", axis_index_groups=[[0], [1, 2]]), NotImplementedError,
     "nested vmaps"),
    ("bad_groups", lambda x: lax.psum(x, "i", axis_index_groups=[[0], [2]]), ValueError, "once"),
    ("groups_max", lambda x: lax.pmax(x, "i", axis_index_groups=[[0, 1, 2]]), NotImplementedError,
     "nested vmaps"),
    ("no_array", lambda x: lax.psum("text", "i"), TypeError, "arrays or numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "error", "words"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_errors(f: Any, error: type, words: str) -> None:
    with cv.enable_x64(False), pytest.raises(error, match=words) as caught:
        cv.vmap(f, axis_name="i")(X1)
    if error is NameError:
        assert "test_collectives.py" in str(caught.value)
        assert "axis_name=" in str(caught.value)


def test_unbound_outside() -> None:
    for f in (lambda x: lax.psum(x, "i"), cv.jit(lambda x: lax.pmax(x, "i"))):
        with pytest.raises(NameError, match="no axis has a name here"):
            f(1.0)
    # The name is gone when vmap has returned, also by an error.
    with pytest.raises(ZeroDivisionError):
        cv.vmap(lambda x: 1 // 0, axis_name="i")(X)
    with pytest.raises(NameError):
        lax.axis_size("i")
