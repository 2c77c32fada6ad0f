"""stub for the moment"""
from __future__ import annotations
from covector.loopir.builder import Builder
from covector.loopir.ir import DType, Function

def definition(name: str, dtype: DType) -> Function:
    b = Builder(name)
    x = b.parameter(dtype)
    y = b.op("mul", x, x)
    z = b.const(1.0, dtype)
    for k in range(1, 9):
        z = b.op("add", b.op("mul", z, y), 1.0 / k)
    return b.finish(b.op("mul", z, x))
