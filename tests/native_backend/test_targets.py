"""Processors other than this one: levels of x86-64 that it includes, and 64-bit ARM by its code."""

from __future__ import annotations

import re
import struct
import sys

import numpy as np
import pytest

import covector as cv
from covector import lax
from covector import numpy as cnp
from covector.backends.native import emit, engine
from covector.backends.native.linking import Unlinkable, link
from covector.backends.native.loading import machine_of
from covector.compiler.pipeline import schedule
from covector.core.config import CPUS, config
from covector.core.errors import CompilationError

X = np.linspace(-3, 3, 64, dtype=np.float32).reshape(4, 16)


def steps(x):
    def body(carry, row):
        carry = carry * 0.9 + cnp.sin(row) * cnp.exp(carry)
        return carry, carry.max()

    return lax.scan(body, cnp.zeros(16), x)


FUNCTIONS = {
    "scan": steps,
    "gradient": cv.grad(lambda x: steps(x)[1].sum()),
    "product": lambda x: cnp.tanh(x @ x.T),
    "half": lambda x: (x.astype("float16") * 2).astype("bfloat16"),
    "integers": lambda x: (x * 100).astype("int32") // 7 % 5,
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="levels are tried on Linux")
@pytest.mark.parametrize("cpu", CPUS[1:])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_levels_agree_with_this_machine(name, cpu):
    fun = FUNCTIONS[name]
    wanted = cv.jit(fun)(X)
    with config.override("cpu", cpu):
        try:
            found = cv.jit(fun)(X)
        except CompilationError as error:
            if "this machine lacks" in str(error):
                pytest.skip(str(error))
            raise
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol=2e-5, atol=2e-6)


WIDEST = {"x86-64": "xmm", "x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}


@pytest.mark.parametrize("cpu", CPUS[1:])
def test_levels_use_their_registers_and_no_others(cpu):
    with config.override("cpu", cpu):
        try:
            text = cv.jit(lambda x: x * 2 + 1).lower(X).as_text("assembly")
        except CompilationError as error:
            pytest.skip(str(error))
    names = ["xmm", "ymm", "zmm"]
    found = {n for n in names if n in text}
    assert WIDEST[cpu] in found
    assert not found & set(names[names.index(WIDEST[cpu]) + 1 :])
    assert ("vfmadd" in text) == (cpu in CPUS[3:])


def test_levels_that_the_machine_lacks(monkeypatch):
    import llvmlite.binding as llvm

    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: {"sse4.2": True, "popcnt": True})
    with pytest.raises(CompilationError, match=r"(?s)x86-64-v3 .* lacks: .*avx2.*lower level"):
        engine.Engine("x86-64-v3")


# --- 64-bit ARM -----------------------------------------------------------------------------------

AARCH64 = 183  # EM_AARCH64
ARM_TARGET = engine.target_of("", "+neon,+fullfp16")


@pytest.fixture(scope="module")
def arm():
    """Compiles a function for 64-bit ARM: object code and assembly."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()

    def compile_for_arm(fun, *args):
        scheduled = schedule(cv.jit(fun).trace(*args).program)
        engine.prepare(scheduled.function, ARM_TARGET)
        module = emit.emit(scheduled.function, ARM_TARGET)
        parsed = llvm.parse_assembly(module.text, llvm.create_context())
        machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(
            cpu="neoverse-n1", opt=2, reloc="pic", codemodel="small"
        )
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.run(parsed, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions()))
        return machine.emit_object(parsed), machine.emit_assembly(parsed)

    return compile_for_arm


@pytest.mark.parametrize("name", FUNCTIONS)
def test_code_for_arm(name, arm):
    code, text = arm(FUNCTIONS[name], X)
    assert code[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", code, 18) == (AARCH64,)
    assert not re.search(r"\b[xyz]mm\d", text)
    assert "entry:" in text


def test_arm_has_vectors_and_fused_products(arm):
    _, text = arm(lambda x: x * 3 + 1, X)
    assert re.search(r"fml[as]\s+v\d+\.4s", text)
    _, text = arm(lambda x: (x > 0, cnp.sqrt(abs(x))), X)
    assert re.search(r"fsqrt\s+v\d+\.4s", text)


def test_code_for_arm_is_left_to_llvm(arm):
    """Here it is not linked, and can be kept all the same."""
    code, _ = arm(FUNCTIONS["scan"], X)
    with pytest.raises(Unlinkable, match="machine 183"):
        link(code)
    machine = machine_of("entry", code, (), ())
    assert machine.linked is None
    assert machine.object_code == code
