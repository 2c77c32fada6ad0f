"""What `import covector as cv` gives: modules, devices, the class of arrays, options of jit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.array import Array


def test_submodules_without_further_imports() -> None:
    code = (
        "import sys, covector as cv\n"
        "assert 'covector.random' not in sys.modules\n"
        "cv.lax.add, cv.numpy.sin, cv.random.key, cv.debug.print, cv.custom_batching.custom_vmap\n"
        "cv.tree.map, cv.tree_util.tree_map\n"
        "assert 'random' in dir(cv)\n"
        "for name in ('nothing', 'covector'):\n"
        "    assert not hasattr(cv, 'nothing')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="module 'covector' has no attribute 'nothing'"):
        cv.nothing  # noqa: B018


def test_everything_listed_is_there() -> None:
    for name in cv.__all__:
        assert getattr(cv, name) is not None
    assert sorted(set(cv.__all__)) == sorted(cv.__all__)
    assert cv.jacobian is cv.jacrev
    assert cv.make_jaxpr is cv.make_program
    assert cv.float0 == jax.float0


def test_traced_values_are_arrays() -> None:
    """As in JAX: `isinstance(x, Array)` holds for arrays and for what stands for them."""
    seen: list[bool] = []

    def f(x: Any) -> Any:
        seen.append(isinstance(x, cv.Array) and isinstance(x, cnp.ndarray))
        return x * 2.0

    cv.jit(f)(1.0)
    cv.vmap(f)(cnp.ones(2))
    cv.grad(f)(1.0)
    cv.jvp(f, (1.0,), (1.0,))
    f(cnp.ones(2))
    assert seen == [True] * 5
    assert not isinstance(np.ones(2), cv.Array)
    assert not isinstance(1.0, cv.Array)
    assert issubclass(Array, cv.Array)
    assert isinstance(cv.random.key(0), cv.Array)


def test_devices() -> None:
    (device,) = cv.devices()
    assert cv.devices("cpu") == cv.local_devices() == [device]
    assert cv.device_count() == 1
    assert (device.platform, device.id, device.process_index) == ("cpu", 0, 0)
    assert cv.default_backend() == jax.default_backend()
    assert repr(device) == repr(jax.devices()[0]).replace("TFRT_CPU_0", "CpuDevice(id=0)")
    with pytest.raises(RuntimeError, match="'gpu'"):
        cv.devices("gpu")
    with pytest.raises(ValueError, match="no process 1"):
        cv.local_devices(1)


def test_moving_arrays() -> None:
    data = np.arange(3)
    put = cv.device_put({"a": data, "b": 2.0}, cv.devices()[0])
    assert put["a"].dtype == np.int32
    assert put["b"].weak_type
    data[0] = 7
    assert int(put["a"][0]) == 0
    x = cnp.ones(2)
    assert cv.device_put(x) is x
    got = cv.device_get((x, 1, "text", put["a"]))
    assert type(got[0]) is np.ndarray
    assert got[1:3] == (1, "text")
    np.testing.assert_array_equal(got[3], [0, 1, 2])
    assert cv.block_until_ready({"x": x, "y": 3})["x"] is x
    assert float(cv.jit(lambda y: cv.block_until_ready(cv.device_put(y)) + 1)(1.0)) == 2.0
    with pytest.raises(TypeError):
        cv.jit(cv.device_get)(1.0)
    for options in ({"device": "gpu"}, {"src": 3}, {"donate": True}, {"may_alias": False}):
        with pytest.raises(ValueError, match="device_put"):
            cv.device_put(x, **options)
    with pytest.raises(TypeError):
        cv.device_put("text")


def test_typeof() -> None:
    assert str(cv.typeof(cnp.ones((2, 3)))) == "f32[2,3]"
    assert cv.typeof(1).weak_type
    seen: list[Any] = []
    cv.vmap(lambda x: seen.append(cv.typeof(x)) or x)(cnp.ones((2, 3), cnp.int8))
    assert [str(a) for a in seen] == ["i8[3]"]
    with pytest.raises(TypeError, match="typeof"):
        cv.typeof("text")


def test_make_program() -> None:
    def f(x: Any, n: int, *, y: Any) -> Any:
        return {"a": x * n, "b": y.sum(0)}

    x = cv.ShapeDtypeStruct((3,), "float32")
    for number in (1, -1):
        program, shapes = cv.make_jaxpr(f, static_argnums=number, return_shape=True)(
            x, 3, y=cnp.ones((2, 2))
        )
        assert [str(a) for a in program.input_avals] == ["f32[3]", "f32[2,2]"]
        assert (shapes["a"].shape, shapes["b"].shape) == ((3,), (2,))
    with pytest.raises(ValueError, match="static_argnums"):
        cv.make_program(f, static_argnums=5)
    with pytest.raises(TypeError, match="expects a function"):
        cv.make_program(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"make_program of f: arguments(.|\n)*text"):
        cv.make_program(f)("text", 3, y=x)


def test_options_of_jit() -> None:
    def f(x: Any) -> Any:
        return x + 1.0

    for options in ({"device": cv.devices()[0]}, {"backend": "cpu"}, {"compiler_options": {}},
                    {"device": None, "in_shardings": None, "out_shardings": None}):  # fmt: skip
        assert float(cv.jit(f, **options)(1.0)) == 2.0
        assert float(cv.jit(**options)(f)(1.0)) == 2.0
    for name, value in (
        ("device", "gpu"), ("in_shardings", "i"), ("out_shardings", ("i",)),
        ("compiler_options", {"xla_flag": 1}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"jit: {name} is not supported(.|\n)*{name}="):
            cv.jit(f, **{name: value})
    for options in ({"static_argnums": 0, "donate_argnums": 0},
                    {"static_argnames": "x", "donate_argnums": 0}):  # fmt: skip
        with pytest.raises(ValueError, match="both static and donated"):
            cv.jit(f, **options)
    with pytest.raises(TypeError, match="jit expects a function"):
        cv.jit()(3)
    for inline, names in ((True, ["add", "mul"]), (False, ["jit", "mul"])):
        g = cv.jit(f, inline=inline)
        program = cv.make_program(lambda x, g=g: g(x) * g.__wrapped__(1))(2.0)
        assert [e.primitive.name for e in program.equations] == names

    @cv.jit
    def gives_text(x: Any) -> Any:
        return "text"

    with pytest.raises(TypeError, match="the output of gives_text must consist"):
        gives_text(1.0)
