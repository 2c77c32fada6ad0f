"""The same modules in Node: libraries written ahead of time, and what they say in Python."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.export import export, library, symbolic_shape
from covector.extend.backends import MissingCapabilityError
from covector_wasm.instance import Instance

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node")

RNG = np.random.default_rng(0)


def network_loss(w1: Any, w2: Any, x: Any, y: Any) -> Any:
    return cnp.sum((cnp.tanh(x @ w1) @ w2 - y) ** 2)


def network_gradient(*arrays: Any) -> Any:
    return cv.grad(network_loss, (0, 1))(*arrays)


def lorenz(y: Any, k: Any) -> Any:
    """A thousand steps of Runge and Kutta's method."""

    def slope(y: Any) -> Any:
        return cnp.stack(
            [k[0] * (y[1] - y[0]), y[0] * (k[1] - y[2]) - y[1], y[0] * y[1] - k[2] * y[2]]
        )

    def step(y: Any, _: Any) -> Any:
        a = slope(y)
        b = slope(y + 0.005 * a)
        c = slope(y + 0.005 * b)
        d = slope(y + 0.01 * c)
        y = y + (a + 2 * b + 2 * c + d) / 600
        return y, y

    return lax.scan(step, y, None, length=1000)[1]


def shifted(z: Any, n: Any) -> Any:
    """Arrays of other types: complex, int64, bool."""
    return z * 1j, n + z.size, n > 2


@extend.array_kernel(results=lambda x, i: cv.ShapeDtypeStruct(i.shape, x.dtype))
def picked(x: Any, i: Any, out: Any) -> None:
    for k in extend.prange(i.shape[0]):
        out[k] = x[i[k]]


def factor(a: Any) -> Any:
    """A function that calls the library."""
    return cnp.sort(cnp.linalg.cholesky(a @ a.T + cnp.eye(40)).ravel())


W1, W2 = (RNG.normal(size=s).astype(np.float32) for s in ((8, 16), (16, 4)))
DATA, TARGETS = (RNG.normal(size=s).astype(np.float32) for s in ((5, 8), (5, 4)))
Z = (RNG.normal(size=3) + 1j * RNG.normal(size=3)).astype(np.complex64)

CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "gradient": (network_gradient, (W1, W2, DATA, TARGETS)),
    "lorenz": (lorenz, (np.ones(3), np.array([10, 28, 8 / 3]))),
    "shifted": (shifted, (Z, np.array([1, 2, 2**40]))),
    "picked": (picked, (np.arange(4.0), np.array([3, 0], np.int32))),
    "factor": (factor, (RNG.normal(size=(40, 40)).astype(np.float32),)),
}


def exported(name: str) -> Any:
    """A function of the cases; that of the network takes any number of examples."""
    function, arguments = CASES[name]
    n = symbolic_shape("n")[0] if name == "gradient" else None
    with cv.enable_x64(True):
        shapes = [
            cv.ShapeDtypeStruct((n, *a.shape[1:]) if n is not None and k >= 2 else a.shape, a.dtype)
            for k, a in enumerate(arguments)
        ]
        return export(cv.jit(function))(*shapes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a library of all functions was written."""
    path = tmp_path_factory.mktemp("library")
    written = library({name: exported(name) for name in CASES}, "sciences", backend="wasm")
    assert written.names == ["sciences.mjs", "sciences.wasm"]
    written.write(path)
    return path


RUN = """
import { readFileSync } from "node:fs";
import { load, functions } from "./sciences.mjs";
const library = await load(readFileSync(new URL("./sciences.wasm", import.meta.url)));
const cases = JSON.parse(readFileSync(0));
const hex = (array) => Buffer.from(array.buffer).toString("hex");
const found = {};
for (const [name, { sizes, bytes }] of Object.entries(cases)) {
  const arrays = bytes.map((each, k) => {
    const kind = globalThis[functions[name].inputs[k].array];
    return new kind(Uint8Array.from(Buffer.from(each, "hex")).buffer);
  });
  for (let again = 0; again < 2; again++) found[name] = library[name](...sizes, ...arrays).map(hex);
}
console.log(JSON.stringify(found));
"""


@needs_node
def test_node_and_python_get_the_same_bits(folder: Path) -> None:
    """One module, run by V8 and by Wasmtime; and the numbers are right."""
    (folder / "run.mjs").write_text(RUN)
    cases = {
        name: {
            "sizes": [5] if name == "gradient" else [],
            "bytes": [a.tobytes().hex() for a in arguments],
        }
        for name, (_, arguments) in CASES.items()
    }
    assert NODE
    run = subprocess.run(
        [NODE, folder / "run.mjs"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    instance = Instance((folder / "sciences.wasm").read_bytes(), 2)
    for name, (function, arguments) in CASES.items():
        with cv.enable_x64(True):
            wanted = cv.jit(function, backend="reference")(*arguments)
        results = [np.empty_like(np.asarray(x)) for x in cv.tree.leaves(wanted)]
        assert instance.call(name, cases[name]["sizes"], arguments, results) == 0
        assert [r.tobytes().hex() for r in results] == found[name], name
        for result, x in zip(results, cv.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(result, x, rtol=1e-4, atol=1e-5)


@needs_node
def test_errors_in_node(folder: Path) -> None:
    script = """
import { readFileSync } from "node:fs";
import { load } from "./sciences.mjs";
const library = await load(readFileSync(new URL("./sciences.wasm", import.meta.url)));
const calls = [
  () => library.lorenz([1, 2], [3, 4, 5]),
  () => library.lorenz([1, 2, 3]),
  () => library.picked([1, 2, 3, 4], [0, 4]),
  () => console.log(library.picked([1, 2, 3, 4], [0, 3])[0].join()),
];
for (const call of calls)
  try { call() } catch (error) { console.log(String(error)) }
"""
    (folder / "errors.mjs").write_text(script)
    assert NODE
    said = subprocess.run([NODE, folder / "errors.mjs"], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    assert lines[:3] == [
        "RangeError: lorenz: y has 2 elements, not [3]",
        "TypeError: lorenz takes 0 sizes and 2 arrays",
        "Error: picked: an index is out of bounds",
    ]
    assert "x[i[k]]" in lines[3]
    assert "test_node.py:" in lines[4]
    assert lines[-1] == "1,4"


def test_the_module_explains_a_status(folder: Path) -> None:
    import wasmtime

    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, (folder / "sciences.wasm").read_bytes())
    assert module.imports == []
    exports: Any = wasmtime.Instance(store, module, []).exports(store)
    place = exports["lorenz_error"](store, -3)
    text = bytes(exports["memory"].read(store, place, place + 100)).split(b"\0")[0]
    assert text == b"not enough memory for temporary arrays"
    assert exports["gradient_bytes"](store, 2, 7) == 7 * 8 * 4
    assert exports["allocate"](store, 0xFFFFFFFF - (1 << 32)) == 0
    for each in (store, module):
        each.close()


@pytest.mark.parametrize(
    ("options", "lacking"),
    [
        ({"kind": "static"}, "static libraries"),
        ({"target": "aarch64-linux-gnu"}, "target 'aarch64-linux-gnu'"),
        ({"cpu": "native"}, "processor 'native'"),
        ({"blas": "openblas"}, "BLAS 'openblas'"),
    ],
)
def test_options_that_are_refused(options: dict[str, str], lacking: str) -> None:
    with pytest.raises(MissingCapabilityError, match=f"lacks: {lacking}"):
        exported("lorenz").library(backend="wasm", **options)


def test_names_that_are_taken() -> None:
    f = exported("lorenz")
    with pytest.raises(ValueError, match="two things called 'memory'"):
        f.library("memory", backend="wasm")
    with pytest.raises(ValueError, match="two things called 'f_error'"):
        library({"f": f, "f_error": f}, "both", backend="wasm")
