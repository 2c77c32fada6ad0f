"""Small jaxprs, imported and run on the reference backend, give what JAX gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import io_callback

import covector as cv
from covector.core import backend, dtypes
from covector.core.array import Array
from covector.core.backend import Options
from covector.core.parsing import parse
from covector.core.trace import eval_program
from covector.core.verify import verify
from covector.interop import JaxprError, from_jax, from_jaxpr, missing_primitives

f32 = np.float32
V = np.array([0.5, -1.25, 2.0, 0.0], f32)
M = np.arange(12, dtype=f32).reshape(3, 4) - 5
I4 = np.array([3, -1, 0, 2], np.int32)


def run_program(program, args):
    verify(program)
    executable = backend.get_backend("reference").compile(program, Options())
    flat = [np.asarray(x) for x in jax.tree.leaves(args)]
    typed = [x.astype(v.aval.dtype) for x, v in zip(flat, program.inputs, strict=True)]
    return executable(*typed)


def check(fn, *args, rtol=1e-5):
    """Imports a function and compares values, dtypes and weak types with JAX's."""
    jaxpr = jax.make_jaxpr(fn)(*args)
    program = from_jaxpr(jaxpr)
    results = run_program(program, args)
    expected = jax.tree.leaves(jax.jit(fn)(*args))
    for result, wanted, aval in zip(results, expected, program.output_avals, strict=True):
        assert result.dtype == wanted.dtype
        assert aval.weak_type == result.weak_type
        np.testing.assert_allclose(
            np.asarray(result).astype(np.complex128),
            np.asarray(wanted).astype(np.complex128),
            rtol=rtol,
            atol=rtol,
        )
    return program


def double(x):
    return x * 2.0


SMALL = {
    "arithmetic": (lambda x: (x + 1.0) * 2 - x / 3 + x % 0.7 + x**3, V),
    "elementwise": (lambda x: jnp.sin(x) + jnp.tanh(x) + jnp.exp(-x) + jnp.log1p(x * x), V),
    "sizes of one broadcast": (lambda x: x[:, None] * x[None, :] + x[:, None], V),
    "comparisons": (lambda x: jnp.where((x > 0) | ~(x < -1), x, -x), V),
    "integers": (lambda i: (i // 2, i % 3, i << 1, i & 3, jnp.clip(i, 0, 2)), I4),
    "division by zero": (lambda i: i // (i - i), I4),
    "conversions": (lambda x: (x.astype(int), x > 0, x.astype(jnp.bfloat16)), V),
    "complex": (lambda x: jnp.abs(lax.complex(x, x) * 1j) + jnp.real(1j * x), V),
    "weak types": (lambda x: (x + 1, jnp.sin(2.0), x * 1j), 3),
    "constants": (lambda x: x + np.arange(4.0, dtype=f32) + jnp.asarray(M)[1], V),
    "iota, eye": (lambda x: jnp.arange(4) * x + jnp.eye(4)[0], V),
    "reductions": (lambda m: (m.sum(0), m.max(), m.prod(1), (m > 0).any(), m.mean(), m.var()), M),
    "arg reductions": (lambda m: (m.argmax(1), m.argmin(0)), M),
    "cumulative": (lambda m: (jnp.cumsum(m, 1), lax.cummax(m, 0), jnp.cumprod(m, 0)), M),
    "shapes": (lambda m: (m.T.reshape(2, 6), m[::-1, 1:3], jnp.pad(m, ((1, 2), (0, 1)))), M),
    "joining": (lambda m: (jnp.concatenate([m, m[:1]]), jnp.stack([m, m]), jnp.split(m, 2, 1)), M),
    "tile and roll": (lambda x: (jnp.tile(x, 2), jnp.roll(x, 1), jnp.repeat(x, 2)), V),
    "matmul": (lambda m: m @ m.T, M),
    "einsum": (lambda m: jnp.einsum("ij,kj->ik", m, m, preferred_element_type=f32), M),
    "precision": (lambda m: jnp.dot(m, m.T, precision="highest"), M),
    "indexing": (lambda x, i: (x[i], x[1], x[i[0]], x.at[i].get(mode="fill")), V, I4),
    "updates": (
        lambda x, i: (x.at[i].add(1.0), x.at[1].set(3.0), x.at[i].max(0.0), x.at[:2].mul(2.0)),
        V,
        I4,
    ),
    "dynamic slices": (
        lambda x, i: (
            lax.dynamic_slice(x, (i[0],), (2,)),
            lax.dynamic_update_slice(x, x[:2], (i[3],)),
        ),
        V,
        I4,
    ),
    "sorting": (lambda x: (jnp.sort(x), jnp.argsort(-x), lax.top_k(x, 2)), V),
    "lexicographic sort": (lambda i, x: lax.sort((i % 2, x), num_keys=2), I4, V),
    "rounding": (lambda x: (jnp.round(x), jnp.floor(x), jnp.sign(x), jnp.trunc(x)), V),
    "bits": (lambda i: (lax.population_count(i), lax.clz(i), lax.bitcast_convert_type(i, f32)), I4),
    "special": (lambda x: (lax.erf(x), lax.lgamma(x + 3), lax.erf_inv(x / 3)), V),
    "reduce precision": (lambda x: lax.reduce_precision(x, 5, 3), V),
    "logsumexp": (lambda m: jax.nn.logsumexp(m, axis=1), M),
    "activations": (lambda x: (jax.nn.relu(x), jax.nn.gelu(x), jax.nn.softplus(x)), V),
    "jit": (lambda x: jax.jit(double)(x) + jax.jit(double)(x + 1), V),
    "remat": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), V),
    "scan": (lambda x: lax.scan(lambda c, a: (c + a, c * a), 0.0, x, reverse=True), V),
    "scan, no carry": (lambda x: lax.scan(lambda c, a: (c, a * x[0]), (), x)[1], V),
    "scan, no xs": (lambda x: lax.scan(lambda c, _: (c * 1.5, None), x, None, length=3)[0], V),
    "while": (lambda x: lax.while_loop(lambda s: s.sum() < 50, lambda s: s * s + x, x), V),
    "batched while": (
        jax.vmap(
            lambda x, y: lax.while_loop(
                lambda s: s[0] < y, lambda s: (s[0] + x * x, s[1] + 1), (x, 0)
            )
        ),
        V[:3],
        V[:3] + 2,
    ),
    "fori": (lambda x: lax.fori_loop(0, 5, lambda i, c: c + i * x, x), V),
    "fori with traced bounds": (
        lambda x, i: lax.fori_loop(0, i[0], lambda i, c: c + i * x, x),
        V,
        I4,
    ),
    "cond": (lambda x: lax.cond(x[0] > 0, double, lambda x: x + x[1], x), V),
    "switch": (lambda x, i: lax.switch(i[0], [double, jnp.sin, lambda x: -x], x), V, I4),
    "batched cond": (jax.vmap(lambda x: lax.cond(x > 0, double, lambda x: -x, x)), V),
    "grad": (jax.grad(lambda x: jnp.sum(jnp.sin(x) ** 2 * x)), V),
    "grad of scan": (
        jax.grad(lambda x: lax.scan(lambda c, a: (jnp.sin(c) * a, c), 1.0, x)[0]),
        V,
    ),
    "hessian": (jax.hessian(lambda x: jnp.sum(x**3 * jnp.roll(x, 1))), V),
    "map": (lambda x: lax.map(lambda a: a * x, x), V),
    "associative scan": (lambda x: lax.associative_scan(jnp.multiply, x), V),
    "barrier": (lambda x: lax.optimization_barrier((x, x + 1)), V),
    "stop gradient": (lambda x: lax.stop_gradient(x) * x, V),
    "platform": (lambda x: lax.platform_dependent(x, tpu=jnp.sin, default=jnp.cos), V),
    "nothing": (lambda x: (), V),
    "identity": (lambda x: (x, x, 1.5), V),
    "empty arrays": (lambda x: (x[:0], jnp.zeros((0, 3)).sum(0)), V),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_program(name):
    fn, *args = SMALL[name]
    check(fn, *args)


RANDOM = {
    "bits": lambda key: jax.random.bits(key, (5,)),
    "uniform": lambda key: jax.random.uniform(key, (2, 3)),
    "normal": lambda key: jax.random.normal(key, (5,)),
    "randint": lambda key: jax.random.randint(key, (5,), 0, 100),
    "split": lambda key: jax.vmap(lambda k: jax.random.uniform(k))(jax.random.split(key, 3)),
    "fold_in": lambda key: jax.random.bits(jax.random.fold_in(key, 7)),
    "exponential": lambda key: jax.random.exponential(key, (3,)),
    "categorical": lambda key: jax.random.categorical(key, jnp.log(jnp.arange(1.0, 5))),
    "permutation": lambda key: jax.random.permutation(key, 7),
    "choice": lambda key: jax.random.choice(key, 5, (3,), replace=False),
    "key_data": lambda key: jax.random.key_data(jax.random.clone(key)),
}


@pytest.mark.parametrize("name", RANDOM)
def test_random(name):
    check(lambda seed: RANDOM[name](jax.random.key(seed)), 42)


def test_raw_keys():
    check(lambda seed: jax.random.normal(jax.random.split(jax.random.PRNGKey(seed))[1], (3,)), 42)


def test_constant_keys_and_key_results():
    key = jax.random.key(3)
    program = from_jax(lambda x: (jax.random.uniform(key) * x, key), 1.0)
    value, same = run_program(program, (1.0,))
    assert float(value) == float(jax.random.uniform(key))
    assert same.dtype == dtypes.key_fry
    np.testing.assert_array_equal(same._value, jax.random.key_data(key))


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "complex128"])
def test_wide_dtypes(dtype):
    with jax.enable_x64(True), cv.enable_x64(True):
        x = np.arange(3).astype(dtype)
        program = check(lambda x: (x * 3 + 1, x.sum(), jnp.dot(x, x)), x)
        assert program.inputs[0].aval.dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8", "uint8", "uint32", "bool"])
def test_narrow_dtypes(dtype):
    x = jnp.array([0, 1, 2, 3]).astype(dtype)
    check(lambda x: (x == x[1], jnp.maximum(x, x[::-1]), x.astype(f32)), x)


def test_float0_results():
    def f(x, i):
        return jax.vjp(lambda x, i: x * i, x, i)[1](x)

    program = from_jax(f, 2.0, 3)
    assert [a.dtype for a in program.output_avals] == [dtypes.float32, dtypes.float0]


def test_jitted_functions_stay_calls_and_are_shared():
    g = jax.jit(double)
    program = from_jax(lambda x: g(g(x)), V)
    calls = [e for e in program.equations if e.primitive.name == "jit"]
    assert [e.params["name"] for e in calls] == ["double", "double"]
    assert calls[0].params["program"] is calls[1].params["program"]
    assert "@double" in program.as_text()


def test_shared_constants_stay_shared():
    table = jnp.arange(100.0)
    program = from_jax(lambda i: table[i] + jnp.sum(table), 3)
    assert program.as_text().count("base64") == 1


def test_custom_rules_are_inlined():
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, ct: (ct * 7.0,))
    check(lambda x: f(x) + jax.nn.silu(x), V)
    check(jax.vmap(jax.grad(f)), V)


def test_sources_and_scopes_are_kept():
    def f(x):
        with jax.named_scope("wave"):
            return jnp.sin(x) * 2

    sin, mul = from_jax(f, V).equations
    assert sin.location.file == __file__
    assert sin.location.line == mul.location.line
    assert sin.scope == "wave"
    assert "test_sources_and_scopes_are_kept.<locals>.f" in sin.location.function


def test_text_round_trip():
    for name in ("scan", "batched while", "cond", "indexing", "jit", "einsum"):
        fn, *args = SMALL[name]
        program = from_jax(fn, *args)
        text = program.as_text()
        assert parse(text).as_text() == text


def gradient_of(fn, x):
    """The gradient that Covector takes of an imported function, and the one JAX takes."""
    program = from_jax(fn, x)
    imported = cv.grad(lambda x: eval_program(program, x)[0])(Array.of(x, program.input_avals[0]))
    return np.asarray(imported), np.asarray(jax.jit(jax.grad(fn))(x))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: jnp.sum(jnp.sin(x) * x),
        lambda x: jnp.sum(lax.stop_gradient(x) ** 2 * x),
        lambda x: lax.scan(lambda c, a: (jnp.tanh(c * a), None), 1.0, x)[0],
        lambda x: jnp.linalg.solve(jnp.outer(x, x) + jnp.eye(4), x)[0],
        lambda x: jnp.linalg.solve(lax.stop_gradient(jnp.outer(x, x)) + jnp.eye(4), x)[0],
        lambda x: jnp.linalg.slogdet(jnp.outer(x, x) + jnp.eye(4))[1],
    ],
)
def test_imported_programs_can_be_differentiated(fn):
    found, expected = gradient_of(fn, V)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# --- callbacks ------------------------------------------------------------------------------------


def test_pure_callback():
    def f(x):
        return jax.pure_callback(lambda a: np.asarray(a) * 2, jax.ShapeDtypeStruct((4,), f32), x)

    check(lambda x: f(x) + 1, V)
    assert "callback" in from_jax(f, V).as_text()


def test_debug_print_and_callback(capfd):
    seen = []

    def f(x):
        jax.debug.print("x is {}", x[0])
        jax.debug.callback(lambda a: seen.append(float(a)), x[2], ordered=True)
        return x

    program = from_jax(f, V)
    names = sorted(str(e) for e in program.effects)
    assert names == ["debug", "ordered_debug"]
    run_program(program, (V,))
    assert "x is 0.5" in capfd.readouterr().out
    assert seen == [2.0]


def test_io_callback_keeps_order():
    seen = []

    def log(a):
        seen.append(int(a))
        return np.int32(len(seen))

    def f(n):
        def step(i, total):
            return total + io_callback(log, jax.ShapeDtypeStruct((), np.int32), i, ordered=True)

        return lax.fori_loop(0, 3, step, n)

    program = from_jax(f, 0)
    assert [e.name for e in program.effects] == ["ordered_io"]
    (total,) = run_program(program, (0,))
    assert seen == [0, 1, 2]
    assert int(total) == 6


# --- what cannot be imported ----------------------------------------------------------------------


def new_primitive(name, impl=None):
    from jax.extend.core import Primitive

    primitive = Primitive(name)
    primitive.def_abstract_eval(lambda x, **params: x)
    if impl is not None:
        primitive.def_impl(impl)
    return primitive


def test_unknown_primitives_are_named_with_an_equation():
    first, second = new_primitive("warp"), new_primitive("weft")

    def f(x):
        return lax.cond(x[0] > 0, lambda x: first.bind(x, speed=9), jnp.sin, x) + second.bind(x)

    assert missing_primitives(jax.make_jaxpr(f)(V)) == ["warp", "weft"]
    with pytest.raises(JaxprError, match="there are no primitives warp, weft") as caught:
        from_jax(f, V)
    assert "warp[speed=9]" in str(caught.value)


def test_primitives_of_other_libraries_are_traced():
    primitive = new_primitive("twice_p", lambda x, **params: jnp.sin(x) * params["factor"])
    program = from_jax(lambda x: primitive.bind(x, factor=2.0), V)
    assert [e.primitive.name for e in program.equations] == ["sin", "mul"]
    np.testing.assert_allclose(run_program(program, (V,))[0], np.sin(V) * 2, rtol=1e-6)


def test_known_primitive_with_an_unknown_parameter():
    jaxpr = jax.make_jaxpr(lambda x: lax.reduce_precision(x, 5, 3))(V)
    eqn = jaxpr.eqns[0]
    for value, message in [(object(), "of type object has no counterpart"), (1, "shape rule")]:
        changed = eqn.replace(params=dict(eqn.params, surprise=value))
        strange = jaxpr.replace(jaxpr=jaxpr.jaxpr.replace(eqns=[changed]))
        with pytest.raises(JaxprError, match=message) as caught:
            from_jaxpr(strange)
        assert "cannot import an equation of reduce_precision" in str(caught.value)


def test_dtypes_without_counterpart():
    with pytest.raises(JaxprError, match="float8_e4m3fn"):
        from_jax(lambda x: x.astype(jnp.float8_e4m3fn), V)


def test_mutable_references():
    def f(x):
        ref = jax.new_ref(x)
        ref[0] = 3.0
        return ref[...]

    with pytest.raises(JaxprError, match=r"no primitives|not an array"):
        from_jax(f, V)


# --- primitives that are taken apart --------------------------------------------------------------


def test_primitives_made_of_others():
    check(lambda x: jax.random.gamma(jax.random.key(0), x, (2, 4)), np.abs(V) + 0.5, rtol=1e-4)
    check(jax.grad(lambda x: jnp.sum(jnp.tanh(x) + jnp.arcsin(x / 3) + jnp.log2(x**2 + 1))), V)
    if hasattr(lax, "polynomial"):
        check(lambda x: lax.polynomial(x, [1.0, x, 3.0]), V)


def test_custom_vmap_and_composite():
    @jax.custom_batching.custom_vmap
    def f(x):
        return jnp.sin(x)

    @f.def_vmap
    def rule(axis_size, in_batched, x):
        return jnp.cos(x), in_batched[0]

    named = lax.composite(lambda x: x * 2, name="lib.double")
    check(lambda x: f(x) + named(x), V)
