"""Memory of a module: free memory is a stack that begins at the global `heap`."""

from __future__ import annotations

from covector_wasm.module import Code

ALLOCATE = "memory.allocate"
"""The function for other functions of the module; a name with a dot is none of theirs."""


def memory_functions() -> tuple[Code, ...]:
    """What every module has."""
    return _allocate(), _public_allocate(), _release()


def _allocate() -> Code:
    """`allocate(bytes)`: the address of new memory, a multiple of 64; 0 if there is none."""
    size, start, end, missing = range(4)
    body = [
        ("global.get", 0),
        ("i64.extend_i32_u",),
        ("i64.const", 63),
        ("i64.add",),
        ("i64.const", -64),
        ("i64.and",),
        ("local.tee", start),
        ("local.get", size),
        ("i64.add",),
        ("local.tee", end),
        # A number of bytes beyond 2^32 cannot be had, and a sum that wrapped around is less.
        ("i64.const", 0xFFFF0000),
        ("i64.gt_u",),
        ("local.get", size),
        ("i64.const", 0xFFFF0000),
        ("i64.gt_u",),
        ("i32.or",),
        ("if", ""),
        ("i32.const", 0),
        ("return",),
        ("end",),
        ("local.get", end),
        ("memory.size",),
        ("i64.extend_i32_u",),
        ("i64.const", 16),
        ("i64.shl",),
        ("i64.sub",),
        ("local.tee", missing),
        ("i64.const", 0),
        ("i64.gt_s",),
        ("if", ""),
        ("local.get", missing),
        ("i64.const", 65535),
        ("i64.add",),
        ("i64.const", 16),
        ("i64.shr_u",),
        ("i32.wrap_i64",),
        ("memory.grow",),
        ("i32.const", -1),
        ("i32.eq",),
        ("if", ""),
        ("i32.const", 0),
        ("return",),
        ("end",),
        ("end",),
        ("local.get", end),
        ("i32.wrap_i64",),
        ("global.set", 0),
        ("local.get", start),
        ("i32.wrap_i64",),
    ]
    return Code(ALLOCATE, ["i64"], ["i32"], ["i64", "i64", "i64"], body, names=["bytes"])


def _public_allocate() -> Code:
    """The same for callers from outside, with a number of 32 bits."""
    body = [("local.get", 0), ("i64.extend_i32_u",), ("call", ALLOCATE)]
    comment = "memory for so many bytes, at a multiple of 64; 0 if there is none"
    return Code("memory.allocate32", ["i32"], ["i32"], [], body, comment, "allocate", ["bytes"])


def _release() -> Code:
    """`release(address)`: makes memory from an address on free again."""
    body = [("local.get", 0), ("global.set", 0)]
    comment = "makes memory from an address on free again"
    return Code("memory.release", ["i32"], [], [], body, comment, "release", ["address"])
