"""Writes the ensembles, as JAX traces them, with arguments and JAX's results, to `fixtures/`.

`python -m tests.interop.export_ensembles`, with JAX 0.12 or later, diffrax and optax.
"""

from __future__ import annotations

import io
import lzma
from pathlib import Path
from typing import Any

import jax
import numpy as np

from covector.core.printing import print_program
from covector.interop import from_jaxpr

from . import ensembles_dynamics, ensembles_inference
from .ensembles import CASES

FIXTURES = Path(__file__).parent / "fixtures"

DEFINED_IN = (ensembles_dynamics, ensembles_inference)


def export(name: str) -> None:
    """Writes a program with its arguments and JAX's results."""
    function, args = CASES[name]()
    program = from_jaxpr(jax.make_jaxpr(function)(*args), name)
    objects: list[Any] = []
    arrays = {"program": np.frombuffer(print_program(program, objects=objects).encode(), "u1")}
    arrays["objects"] = np.array(len(objects))
    leaves = zip(jax.tree.leaves(args), program.inputs, strict=True)
    arrays |= {f"in{k:02}": np.asarray(x).astype(v.aval.dtype) for k, (x, v) in enumerate(leaves)}
    results = jax.tree.leaves(jax.jit(function)(*args))
    arrays |= {f"out{k:02}": np.asarray(x) for k, x in enumerate(results)}
    data = io.BytesIO()
    np.savez(data, **arrays)
    FIXTURES.mkdir(exist_ok=True)
    (FIXTURES / f"{name}.npz.xz").write_bytes(lzma.compress(data.getvalue()))


if __name__ == "__main__":
    for each in CASES:
        export(each)
