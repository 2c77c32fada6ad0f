"""Serialised functions that strangers tampered with: damaged, cut, and made to deceive."""

from __future__ import annotations

import random
from collections.abc import Callable

from covector.export import wire
from covector.export.exported import FUNCTION
from covector.export.programs import SECTIONS

Sections = dict[bytes, bytes]
EXTREMES = [0, 1, 2, 3, 7, 31, 127, 128, 255, 1 << 14, 1 << 20, 1 << 31, 1 << 32, 1 << 62, 1 << 64]


def sections_of(data: bytes) -> Sections:
    found, _ = wire.unpacked(data, SECTIONS | {FUNCTION})
    return {tag: bytes(reader.raw(reader.left)) for tag, reader in found.items()}


def number(value: int) -> bytes:
    out = wire.Writer()
    out.number(value)
    return bytes(out.data)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """One change of some bytes somewhere."""
    if not data:
        return bytes([rng.randrange(256)])
    place = rng.randrange(len(data))
    length = rng.choice([1, 1, 1, 2, 4, 8, 40])
    kind = rng.randrange(14)
    if kind > 6:  # another item, another kind: what is still in step goes deepest
        near = (data[place] + rng.choice([-3, -2, -1, 1, 2, 3])) % 128
        value = near if kind > 9 else rng.randrange(24)
        return data[:place] + bytes([value]) + data[place + 1 :]
    if kind == 0:
        return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    if kind == 2:
        return data[:place]
    if kind == 3:
        return data[:place] + rng.randbytes(length) + data[place:]
    if kind == 4:
        return data[:place] + data[place + length :]
    if kind == 5:  # an item twice, or in another place
        other = rng.randrange(len(data))
        return data[:place] + data[other : other + length] + data[place:]
    return data[:place] + number(rng.choice(EXTREMES)) + data[place + 1 :]


def mutate_payload(sections: Sections, rng: random.Random, other: Sections) -> Sections:
    """Changes of what is in sections, with checksums that are right."""
    changed = dict(sections)
    if rng.random() < 0.05:
        tag = rng.choice(list(changed))
        changed[tag] = other[tag]
        return changed
    if rng.random() < 0.02:
        del changed[rng.choice(list(changed))]
        return changed
    tag = rng.choices(list(changed), [1 + min(len(p), 2000) for p in changed.values()])[0]
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        changed[tag] = mutate_bytes(changed[tag], rng)
    return changed


def mutated(get: Callable[[str], bytes], names: list[str], seed: int) -> bytes:
    """A hostile input.

    Args:
        get: a serialised function of a name.
        names: of those there are.
        seed: which one.
    """
    rng = random.Random(seed)
    data = get(rng.choice(names))
    if rng.random() < 0.15:
        for _ in range(rng.choice([1, 2, 5])):
            data = mutate_bytes(data, rng)
        return data
    other = sections_of(get(rng.choice(names)))
    changed = wire.packed(mutate_payload(sections_of(data), rng, other))
    return mutate_bytes(changed, rng) if rng.random() < 0.02 else changed
