"""Python functions of scalars as elementwise operations."""

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from scipy import special

import covector as cv
import covector.numpy as cnp
from covector import extend, testing
from covector.core.parsing import parse
from covector.testing import gradients

HALF = 0.5
WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


@extend.scalar_kernel
def lambert_w(x: Any) -> Any:
    """The principal branch of Lambert's W by Halley's iteration."""
    w = math.log1p(x) if x < 3 else math.log(x) - math.log(math.log(x))
    for _ in range(30):
        e = math.exp(w)
        f = w * e - x
        step = f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
        w = w - step
        if abs(step) < 1e-6 * (1 + abs(w)):
            break
    return w


@extend.scalar_kernel
def implicit_w(x: Any) -> Any:
    """The same, with the derivative by the implicit function theorem."""
    return lambert_w(x)


@implicit_w.defjvp
def _implicit_w_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    w = implicit_w(x)
    return w, t / (x + cnp.exp(w))


@extend.scalar_kernel
def collatz(n: Any) -> Any:
    steps = 0
    while n > 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


@extend.scalar_kernel
def sign_and_size(x: Any, *, limit: float = 10.0) -> Any:
    if x < 0:
        return -1, min(-x, limit)
    if x == 0:
        return 0, 0.0
    return 1, min(x, limit)


@extend.scalar_kernel
def first_power_above(x: Any, bound: Any) -> Any:
    power = 1.0
    for k in range(100):
        if k == 0:
            continue
        power *= x
        if power > bound:
            return k
    return -1


@extend.scalar_kernel
def polynomial(x: Any) -> Any:
    powers = np.zeros(4)
    powers[0] = 1.0
    for k in range(1, 4):
        powers[k] = powers[k - 1] * x
    total = HALF * powers[3]
    for k in range(3):
        total += WEIGHTS[k] * powers[k]
    return total


@extend.scalar_kernel
def element(i: Any) -> Any:
    values = [3.0, 1.0, 4.0, 1.5]
    values[i % 4] = 9.0
    return values[0] + 10 * values[i]


@extend.scalar_kernel
def masked_loop(x: Any) -> Any:
    total = 0.0
    if x > 0:
        while x > 1e-3:  # would not end for negative infinity
            x = x * 0.5
            total += x
    elif x < -5 and math.sqrt(-x) > 3:
        total = -math.sqrt(-x)
    else:
        total = x
    return total


XS = cnp.linspace(-12.0, 12.0, 83)

CASES: list[tuple[Any, tuple[Any, ...]]] = [
    (lambert_w, (cnp.linspace(0.05, 30.0, 67),)),
    (collatz, (cnp.arange(1, 60),)),
    (sign_and_size, (XS,)),
    (first_power_above, (cnp.linspace(0.5, 4.0, 41), cnp.float32(50.0))),
    (polynomial, (XS,)),
    (element, (cnp.arange(4),)),
    (masked_loop, (XS,)),
]


def _each_by_python(kernel: Any, args: Any) -> list[Any]:
    arrays = np.broadcast_arrays(*[np.asarray(a) for a in args])
    columns = [[x.item() for x in a.ravel()] for a in arrays]

    def plain(*values: Any) -> Any:
        result = kernel.python(*values)
        return result if isinstance(result, tuple) else (result,)

    rows = [plain(*values) for values in zip(*columns, strict=True)]
    return [np.array(column) for column in zip(*rows, strict=True)]


def _results(value: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(v) for v in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize(("kernel", "args"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_values_are_those_of_the_python_function(kernel: Any, args: Any) -> None:
    expected = _each_by_python(kernel, args)
    for fn in (kernel, cv.jit(kernel), cv.jit(kernel, backend="reference")):
        for got, want in zip(_results(fn(*args)), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "args"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_vmap_and_loops_give_the_same(kernel: Any, args: Any) -> None:
    full = [cnp.broadcast_to(a, args[0].shape) for a in args]
    expected = _results(kernel(*full))

    def scanned(*xs: Any) -> Any:
        return cv.lax.scan(lambda c, x: (c, kernel(*x)), 0, xs)[1]

    for fn in (cv.vmap(kernel), cv.jit(cv.vmap(kernel)), cv.jit(scanned)):
        for got, want in zip(_results(fn(*full)), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", [lambert_w, implicit_w])
def test_lambert_w_and_its_derivatives(kernel: Any) -> None:
    x = cnp.linspace(0.1, 30.0, 100)
    w = special.lambertw(np.asarray(x)).real
    np.testing.assert_allclose(kernel(x), w, rtol=3e-6)
    slope = w / (np.asarray(x) * (1 + w))
    gradient = cv.jit(cv.grad(lambda x: kernel(x).sum()))(x)
    np.testing.assert_allclose(gradient, slope, rtol=2e-5)
    np.testing.assert_allclose(cv.vmap(cv.grad(kernel))(x), slope, rtol=2e-5)
    _, tangent = cv.jvp(kernel, (x,), (cnp.full(x.shape, 2.0),))
    np.testing.assert_allclose(tangent, 2 * slope, rtol=2e-5)


@extend.scalar_kernel
def spiral(x: Any, y: Any) -> Any:
    r = math.hypot(x, y)
    a, b = x, y
    for _ in range(12):
        a, b = a * math.cos(r) - b * math.sin(r), HALF * (a + b)
    while r > 1:
        r = r * 0.7
        a = a + r * y
    return a, b * r


def test_derivatives_of_several_operands_and_results_agree() -> None:
    with cv.enable_x64(True):
        x, y = cnp.linspace(0.3, 1.9, 7), cnp.linspace(-1.0, 1.1, 7)
        gradients.check_grads(spiral, (x, y), order=2)
        forward = cv.jacfwd(lambda v: cnp.stack(spiral(v[0], v[1])))(cnp.array([1.2, 0.4]))
        backward = cv.jacrev(lambda v: cnp.stack(spiral(v[0], v[1])))(cnp.array([1.2, 0.4]))
        np.testing.assert_allclose(forward, backward, rtol=1e-12)


def test_every_oracle_agrees() -> None:
    with cv.enable_x64(True):
        testing.check_op(lambert_w, cnp.linspace(0.3, 9.0, 6))
        testing.check_op(implicit_w, cnp.linspace(0.3, 9.0, 6), order=1)
        testing.check_op(spiral, cnp.linspace(0.3, 1.9, 5), cnp.linspace(-1.0, 1.1, 5), order=1)


def test_derivative_with_respect_to_a_number_used_at_every_element() -> None:
    x = cnp.linspace(0.5, 1.5, 5)
    both = cv.grad(lambda x, y: (spiral(x, y)[0]).sum(), argnums=(0, 1))
    gx, gy = both(x, 0.3)
    fx, fy = both(x, cnp.full(5, 0.3))
    np.testing.assert_allclose(gx, fx, rtol=1e-6)
    np.testing.assert_allclose(gy, fy.sum(), rtol=1e-5)


def test_dtypes_are_promoted_as_of_arrays() -> None:
    @extend.scalar_kernel
    def mixed(x: Any, n: Any) -> Any:
        return x * 2 + n, n + 1, x > n

    a, b, c = mixed(cnp.ones(3, dtype=cnp.bfloat16), cnp.arange(3))
    assert (a.dtype, b.dtype, c.dtype) == (cnp.bfloat16, np.int32, np.bool_)

    @extend.scalar_kernel(dtype="int16")
    def declared(x: Any) -> Any:
        return x * 2

    assert declared(cnp.ones(3)).dtype == np.int16


def test_operands_broadcast() -> None:
    @extend.scalar_kernel
    def total(x: Any, y: Any) -> Any:
        return x + y

    np.testing.assert_array_equal(
        total(cnp.arange(3)[:, None], cnp.arange(4)), np.add.outer(np.arange(3), np.arange(4))
    )


def test_programs_print_and_parse() -> None:
    program = cv.make_program(spiral)(cnp.ones(3), 2.0)
    again = parse(program.as_text())
    assert again.as_text() == program.as_text()
    assert "scalar_kernel" in program.as_text()


def test_keyword_arguments_are_constants() -> None:
    np.testing.assert_array_equal(sign_and_size(cnp.array([9.0]), limit=3.0)[1], [3.0])
    with pytest.raises(TypeError, match="by name limit"):
        sign_and_size(1.0, bound=3.0)


def test_kernels_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(lambert_w)) is lambert_w  # noqa: S301


def test_a_kernel_costs_what_its_expression_does() -> None:
    @extend.scalar_kernel
    def kernel(x: Any, y: Any) -> Any:
        return math.exp(-x * x) * HALF + y / (1 + x)

    def expression(x: Any, y: Any) -> Any:
        return cnp.exp(-x * x) * HALF + y / (1 + x)

    def operations(fn: Any) -> list[str]:
        x = cnp.ones(1000)
        text = cv.jit(fn).lower(x, x).as_text("loopir")
        return sorted(re.sub(r"%\w+", "%", line) for line in text.splitlines())

    def around(fn: Any) -> Any:
        return lambda x, y: 3 * fn(cnp.abs(x), y - x)

    assert operations(kernel) == operations(expression)
    assert operations(around(kernel)) == operations(around(expression))


# --- errors ---------------------------------------------------------------------------------------


def _helper(x: Any) -> Any:
    return x


def test_what_is_not_supported_is_named_with_its_line() -> None:
    @extend.scalar_kernel
    def listed(x: Any) -> Any:
        values = [x for _ in range(3)]
        return values[0]

    with pytest.raises(extend.KernelError, match=r"ListComp is not supported(.|\n)*numpy.zeros"):
        listed(1.0)
    with pytest.raises(extend.KernelError, match=r"test_scalar_kernel.py:\d+ \(listed\)"):
        listed(1.0)


def test_functions_that_are_no_kernels_are_refused() -> None:
    @extend.scalar_kernel
    def calls(x: Any) -> Any:
        return _helper(x)

    with pytest.raises(extend.KernelError, match=r"_helper cannot be called(.|\n)*@scalar_kernel"):
        calls(1.0)


def test_variables_without_values_are_refused() -> None:
    @extend.scalar_kernel
    def sometimes(x: Any) -> Any:
        if x > 0:
            y = x
        return y  # pyright: ignore[reportPossiblyUnbound]

    with pytest.raises(extend.KernelError, match="only one side of the branch"):
        sometimes(1.0)

    @extend.scalar_kernel
    def after(x: Any) -> Any:
        while x > 1:
            y = x
            x = x / 2
        return y  # pyright: ignore[reportPossiblyUnbound]

    with pytest.raises(extend.KernelError, match="may not run at all"):
        after(1.0)


def test_kernels_return_in_every_case() -> None:
    @extend.scalar_kernel  # noqa: RET503
    def falls_through(x: Any) -> Any:
        if x > 0:
            return x

    with pytest.raises(extend.KernelError, match="returns a value in every case"):
        falls_through(1.0)


def test_source_that_is_not_there_is_an_error() -> None:
    with pytest.raises(extend.KernelError, match="a lambda has no source"):
        extend.scalar_kernel(lambda x: x)
    names: dict[str, Any] = {}
    exec("def typed(x):\n    return x\n", names)
    with pytest.raises(extend.KernelError, match="compiled from its source"):
        extend.scalar_kernel(names["typed"])


def test_kernels_do_not_call_themselves() -> None:
    @extend.scalar_kernel
    def factorial(n: Any) -> Any:
        return 1 if n < 2 else n * factorial(n - 1)

    with pytest.raises(extend.KernelError, match="cannot call themselves"):
        factorial(3)


@extend.scalar_kernel
def skipping(x):
    i, s = 0, 0.0
    while i < 6:
        i += 1
        if i == 3:
            continue
        j = 0
        while j < 4:
            j += 1
            if j % 2 == 0:
                continue
            s += x * i * j
    return s


def test_continue_in_while_goes_on_with_the_next_iteration():
    for fn in (skipping, cv.jit(skipping), cv.jit(cv.vmap(skipping))):
        x = np.float32([1.0, -0.5]) if fn is not skipping else 2.0
        np.testing.assert_allclose(fn(x), np.vectorize(skipping.python)(x), rtol=1e-6)
    assert float(cv.grad(skipping)(1.0)) == skipping.python(1.0)


def test_constants_that_are_equal_but_not_the_same():
    @extend.scalar_kernel
    def scaled(x, *, p=2):
        return x * p

    x = np.array([3], np.int32)
    for p, dtype in ((1, np.int32), (1.0, np.float32), (True, np.int32), (1.0, np.float32)):
        assert np.asarray(scaled(x, p=p)).dtype == dtype
    signs = [np.signbit(np.asarray(scaled(np.float32(1), p=p))) for p in (0.0, -0.0, 0.0)]
    assert signs == [False, True, False]


@extend.scalar_kernel
def hundreds(n):
    s = 0
    for _ in range(0, n, 100):
        s += 1
    return s


@extend.scalar_kernel
def down_to_zero(n):
    s = 0
    for k in range(n, -1, -1):
        s += k
    return s


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32])
def test_bounds_of_small_and_unsigned_types(dtype):
    n = np.array([5, 0, 127], dtype)
    np.testing.assert_array_equal(hundreds(n), [1, 0, 2])
    np.testing.assert_array_equal(down_to_zero(n), [15, 0, 8128])


def test_bounds_are_integers():
    with pytest.raises(TypeError, match="bounds of a range are integers"):
        hundreds(np.float32(2.5))


def test_a_derivative_of_its_own_holds_in_other_kernels():
    @extend.scalar_kernel
    def straight(x):
        return x * 1.0

    @straight.defjvp
    def _(primals, tangents):
        return straight(primals[0]), tangents[0] * 42

    @extend.scalar_kernel
    def outer(x):
        return straight(x) * 2

    for fn in (outer, cv.jit(outer)):
        assert float(cv.grad(fn)(1.0)) == 84
    np.testing.assert_array_equal(cv.vmap(cv.grad(outer))(np.ones(3, np.float32)), 84)
