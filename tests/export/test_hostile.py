"""What strangers may send: refused with one error, or valid; never a crash, never for long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.export.corpus import FUNCTIONS, serialized
from tests.export.mutations import mutated, number, sections_of

from covector.core.verify import verify
from covector.export import DeserializationError, deserialize, wire
from covector.export.exported import FUNCTION
from covector.export.programs import AVALS, CONSTANTS, PROGRAMS, TEXTS
from covector.export.values import AVAL, TUPLE

NAMES = list(FUNCTIONS)


def read(data: bytes) -> bool:
    """Whether something is read; all else than refusal and a valid program is a failure."""
    start = time.perf_counter()
    try:
        found = deserialize(data)
    except DeserializationError as error:
        assert str(error)  # noqa: PT017
        return False
    finally:
        assert time.perf_counter() - start < 20
    verify(found.program)
    assert found.serialize()
    return True


@given(st.integers(0, 2**63))
def test_inputs_that_were_tampered_with(seed: int) -> None:
    read(mutated(serialized, NAMES, seed))


@given(st.binary(max_size=300))
def test_inputs_that_are_anything(data: bytes) -> None:
    assert not read(data)
    assert not read(wire.MAGIC + data)
    sections = sections_of(serialized("ode"))
    for tag in (PROGRAMS, AVALS, CONSTANTS, TEXTS, FUNCTION):
        read(wire.packed({**sections, tag: data}))


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_cut_short(name: str) -> None:
    data = serialized(name)
    for end in range(0, len(data), 7):
        assert not read(data[:end])
    assert not read(data + b"\0")


def changed(**payloads: bytes) -> bytes:
    given = {tag.encode(): payload for tag, payload in payloads.items()}
    return wire.packed({**sections_of(serialized("ode")), **given})


def refusal(data: bytes) -> str:
    with pytest.raises(DeserializationError) as found:
        deserialize(data)
    return str(found.value)


def test_counts_of_what_is_not_there() -> None:
    for tag in ("PROG", "AVAL", "DATA", "TEXT"):
        for count in (1 << 15, 1 << 40, 1 << 63):
            refusal(changed(**{tag: number(count)}))
        refusal(changed(**{tag: b"\xff" * 40}))


def test_arrays_that_are_too_large() -> None:
    texts = number(1) + number(3) + b"f32"

    def shape(*sizes: int) -> bytes:
        items = b"".join([number(0) + number(2 * n) for n in sizes])
        return number(1) + number(0) + number(0) + number(len(sizes)) + items

    assert "too large" in refusal(changed(TEXT=texts, AVAL=shape(1 << 40, 1 << 40)))
    huge = changed(TEXT=texts, AVAL=shape(1 << 40), DATA=number(1) + number(0))
    assert "ends before" in refusal(huge)


def test_values_nested_deep() -> None:
    deep = serialized("jitted")
    assert len(deep) > 0
    sections = sections_of(deep)
    nest = (number(TUPLE) + number(1)) * 5000 + number(AVAL)
    at = sections[PROGRAMS].find(number(TUPLE))
    assert not read(wire.packed({**sections, PROGRAMS: sections[PROGRAMS][:at] + nest}))


def test_programs_that_hold_each_other_many_times() -> None:
    """Each program calls the one before twice: 2^60 equations in a kilobyte."""
    texts = [b"f32", b"", b"jit", b"program", b"name", b"inline"]
    text = number(len(texts)) + b"".join([number(len(t)) + t for t in texts])
    aval = number(1) + number(0) + number(0) + number(0)
    programs = [number(1) + number(1) + number(0) + number(0) + number(1) + number(0)]
    for k in range(60):
        call = number(2) + number(1) + number(1) + number(0)
        params = number(3) + number(3) + b"\x0f" + number(k) + number(4) + b"\x06" + number(1)
        params += number(5) + b"\x02"
        equation = call + params + number(1) + number(0)
        head = number(1) + number(1) + number(0)
        programs.append(head + number(2) + equation * 2 + number(1) + number(4))
    body = number(len(programs)) + b"".join(programs)
    message = refusal(changed(TEXT=text, AVAL=aval, DATA=number(0), PROG=body))
    assert "too many" in message


def test_what_is_damaged_says_so() -> None:
    data = bytearray(serialized("ode"))
    data[200] ^= 1
    assert "checksum" in refusal(bytes(data))
    assert "does not begin like one" in refusal(b"\x80\x04pickle")
    with pytest.raises(TypeError, match="takes bytes"):
        deserialize("text")  # type: ignore[arg-type]


# --- versions ---


def version(major: int, minor: int, **more: bytes) -> bytes:
    sections = {**sections_of(serialized("ode")), **{t.encode(): p for t, p in more.items()}}
    data = bytearray(wire.packed(sections))
    data[8:12] = major.to_bytes(2, "little") + minor.to_bytes(2, "little")
    return bytes(data)


def test_other_versions_of_the_format() -> None:
    assert "install a newer Covector" in refusal(version(wire.MAJOR + 1, 0))
    assert "serialise it again" in refusal(version(0, 3))
    assert read(version(wire.MAJOR, wire.MINOR + 7))
    assert read(version(wire.MAJOR, wire.MINOR + 7, note=b"may be skipped"))
    assert "not known here" in refusal(version(wire.MAJOR, wire.MINOR + 7, NOTE=b"must not"))
    assert "not known here" in refusal(version(wire.MAJOR, wire.MINOR, note=b"too early"))


def test_later_versions_may_add_to_sections() -> None:
    sections = sections_of(serialized("ode"))
    assert read(version(wire.MAJOR, wire.MINOR + 1, FUNC=sections[FUNCTION] + b"more"))
    assert "bytes more" in refusal(version(wire.MAJOR, wire.MINOR, FUNC=sections[FUNCTION] + b"x"))


def test_operations_that_are_not_known() -> None:
    sections = sections_of(serialized("ode"))
    other = wire.packed({**sections, TEXTS: sections[TEXTS].replace(b"sin", b"sjn")})
    message = refusal(other)
    assert "'sjn', which is not known here" in message
    assert "install a newer Covector" in message
    parameter = wire.packed({**sections, TEXTS: sections[TEXTS].replace(b"unroll", b"enroll")})
    assert "enroll" in refusal(parameter)


def test_source_code_and_callbacks_have_no_place() -> None:
    sections = sections_of(serialized("ode"))
    for name in (b"lanes", b"pure_callback"):
        texts = sections[TEXTS].replace(number(4) + b"scan", number(len(name)) + name)
        assert "has no place here" in refusal(wire.packed({**sections, TEXTS: texts}))
