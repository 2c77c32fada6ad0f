"""The checker of operations: it passes what is right and finds what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from tests.extend.worked import lambertw

import covector as cv
import covector.numpy as cnp
from covector import extend
from covector.testing import CheckFailed, check_op

X = np.array([0.5, 1.25, 3.0])


@pytest.fixture(autouse=True)
def _wide():
    with cv.enable_x64(True):
        yield


def names(report, status):
    return {c.name for c in report.checks if c.status == status}


def test_lambert_w():
    report = check_op(lambertw, X)
    assert names(report, "FAILED") == set()
    assert {"derivative 2, rev", "vmap of vmap", "lanes", "NaN"} <= names(report, "ok")
    assert str(report).startswith("test_lambertw: all checks passed\n")


def test_functions_and_several_operands():
    report = check_op(lambda x, y: (x @ y, cnp.sum(x)), np.outer(X, X), X)
    assert "vmap over 0, 1" in names(report, "ok")


def failures(op, *args, **options):
    with pytest.raises(CheckFailed) as caught:
        check_op(op, *args, **options)
    report = caught.value.report
    assert str(report) == str(caught.value)
    return report


def defective(name, **rules):
    rules = {"shape": lambda x: x, "evaluate": np.sin, **rules}
    return extend.operation(name, **rules)


def cosine(primals, tangents):
    return cnp.sin(primals[0]), cnp.cos(primals[0]) * tangents[0]


def test_what_is_refused_is_skipped_with_the_reason():
    report = check_op(defective("check_no_jvp"), X)
    skipped = [c for c in report.checks if c.name == "derivative 1, rev"]
    assert skipped[0].status == "skipped"
    assert "differentiation of `check_no_jvp`" in skipped[0].detail


def test_integers_have_no_derivatives():
    op = extend.decomposition(name="check_integers")(lambda n: n * 2)
    report = check_op(op, np.arange(3))
    assert "derivative 1, fwd" in names(report, "skipped")


def test_a_wrong_derivative_is_found():
    op = defective("check_jvp", jvp=lambda p, t: (op(p[0]), cnp.cos(p[0]) * t[0] * 1.01))
    report = failures(op, X)
    assert "derivative 1, fwd" in names(report, "FAILED")
    assert "difference quotient" in str(report)
    assert "jit on native" in names(report, "ok")


def test_a_wrong_second_derivative_is_found():
    op = defective("check_second", jvp=lambda p, t: (op(p[0]), other(p[0]) * t[0]))
    other = extend.operation(
        "check_other", shape=lambda x: x, evaluate=np.cos, jvp=lambda p, t: (other(p[0]), t[0])
    )
    found = names(failures(op, X), "FAILED")
    assert "derivative 1, fwd" not in found
    assert "derivative 2, fwd" in found


def test_a_wrong_lowering_is_found():
    def lower(b, x):
        return b.lazy(x.shape, x.dtype, lambda i: b.builder.op("cos", x.at(i)), x.cost + 1)

    report = failures(defective("check_lower", lower=lower), X)
    assert "jit on native" in names(report, "FAILED")
    assert "jit on reference" in names(report, "ok")
    assert "is wrong in 3 of 3 elements, first at (0,)" in str(report)


def test_a_wrong_batch_rule_is_found():
    def batch(size, operands, dims):
        return op(operands[0]), 0  # wherever the axis was

    op = defective("check_batch", batch=batch, jvp=cosine)
    assert "vmap over 0" in names(failures(op, X), "FAILED")


def test_what_is_not_elementwise_is_found():
    op = defective("check_mixing", evaluate=lambda x: x - x.sum(), elementwise=True)
    found = names(failures(op, X), "FAILED")
    assert "vmap over 0" in found
    assert "jit on native" not in found


def test_a_wrong_shape_rule_is_found():
    op = extend.operation(
        "check_shape",
        shape=lambda x: x.update(dtype=np.float32),
        evaluate=np.floor,
        lower=lambda b, x: x,
    )
    assert failures(op, X)


def test_what_rules_raise_is_in_the_report():
    def jvp(primals, tangents):
        raise ZeroDivisionError("no such thing")

    report = failures(defective("check_raises", jvp=jvp), X)
    assert "ZeroDivisionError: no such thing" in str(report)


def test_parameters_are_passed():
    power = extend.decomposition(name="check_power")(lambda x, *, n: x**n)
    check_op(power, X, params={"n": 3})
    with pytest.raises(CheckFailed):
        check_op(power, X)


def test_tolerances():
    op = defective(
        "check_loose",
        lower=lambda b, x: b.lazy(x.shape, x.dtype, lambda i: b.builder.op("sin", x.at(i)), 1),
    )
    check_op(op, X, rtol=1e-3)
