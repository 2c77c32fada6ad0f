"""Equations that are the same again and again, as a Python loop that was traced leaves them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from covector.core.program import Atom, Literal, Program, Variable, param_key

FEWEST = 8
"""Iterations that are worth a loop."""

SAVED = 256
"""Equations that a loop must save. Shorter programs compile fast as they are."""

WORDS = (2, 5, 8)
"""Lengths, as powers of two, of the sequences of equations whose distances are periods to try.

Short ones find short iterations. Where these are alike in parts, as the stages of a step are, only
long ones are as far apart as whole iterations."""

PERIODS = 32
"""How many of these distances are tried for each length, those that occur most often."""

LARGEST = 4096
"""Elements of array literals that are compared, or stacked where each iteration has its own."""

EFFORT = 8
"""Operands looked at until no further repeats are tried, for each one of the program."""

_FAR = np.int32(2**30)


class Fixed(NamedTuple):
    """An operand that is the same in all iterations."""

    atom: Atom


class Varying(NamedTuple):
    """A literal of which each iteration has its own."""

    literals: tuple[Literal, ...]


class Within(NamedTuple):
    """A result of the same iteration: of which equation, and which of its outputs."""

    equation: int
    output: int


class Carried(NamedTuple):
    """A result of the iteration before; `first` for the first iteration."""

    equation: int
    output: int
    first: Atom


class Kept(NamedTuple):
    """What another repeat's iterations computed: iteration k reads that of `first + step * k`."""

    repeat: Repeat
    equation: int
    output: int
    first: int
    step: int


class Rows(NamedTuple):
    """Results of the `unstack` at a place of the program: iteration k reads `first + step * k`."""

    place: int
    first: int
    step: int


Source = Fixed | Varying | Within | Carried | Kept | Rows


class Repeat:
    """`count` times the same `period` equations, from equation `start` of a program on.

    Attributes:
        sources: for each operand of each equation of an iteration, where it comes from.
    """

    def __init__(self, start: int, period: int, count: int) -> None:
        self.start = start
        self.period = period
        self.count = count
        self.sources: list[list[Source]] = []

    @property
    def stop(self) -> int:
        return self.start + self.period * self.count

    def place(self, iteration: int, equation: int) -> int:
        """The position in the program of an equation of an iteration."""
        return self.start + iteration * self.period + equation


class Repeats:
    """Finds the repeats of a program.

    Equations match if they apply the same primitive with the same parameters to operands of the
    same types. Runs of equations that match those a period later are candidates; then each operand
    must be the same in all iterations, a literal, a result of the same iteration, or of the
    one before, or it walks through the rows of an array, or through what another repeat computed,
    forwards or backwards.

    Args:
        program: where to look; programs nested in it are left alone.
        barred: ranges of equations that stay as they are.
    """

    def __init__(self, program: Program, barred: Iterable[tuple[int, int]] = ()) -> None:
        self.equations = program.equations
        self.places: dict[Variable, tuple[int, int]] = {
            variable: (n, k)
            for n, equation in enumerate(self.equations)
            for k, variable in enumerate(equation.outputs)
        }
        self.found: list[Repeat] = []
        self._owners: list[Repeat | None] = [None] * len(self.equations)
        self._free = np.ones(len(self.equations), bool)
        for start, stop in barred:
            self._free[start:stop] = False
        self._effort = EFFORT * sum([len(e.inputs) for e in self.equations])

    def find(self) -> list[Repeat]:
        """The repeats, in the order of the program."""
        candidates = self._candidates()
        while any(self._try(*each) for each in candidates):
            pass  # short periods may be those of loops that read what this one computes
        return sorted(self.found, key=lambda repeat: repeat.start)

    # --- candidates -------------------------------------------------------------------------------

    def _candidates(self) -> list[tuple[int, int, int]]:
        """Ranges of equations that match those a period later, short periods first."""
        kinds, distances = self._kinds(), self._distances()
        found: list[tuple[int, int, int]] = []
        for period in _periods(kinds):
            shortest = max((FEWEST - 1) * period, SAVED)
            equal = kinds[period:] == kinds[:-period]
            for distance in distances:
                if np.count_nonzero(equal) < shortest:
                    break
                a, b = distance[period:], distance[:-period]
                equal &= (a == b) | ((a > 2 * period) & (b > 2 * period))
            edges = np.flatnonzero(np.diff(np.concatenate(([False], equal, [False])).view(np.int8)))
            starts, stops = edges[::2], edges[1::2]
            long = stops - starts >= shortest
            for start, stop in zip(starts[long].tolist(), stops[long].tolist(), strict=True):
                found.append((start, stop + period, period))
        return found

    def _kinds(self) -> np.ndarray[Any, Any]:
        """A number for each equation, equal for those that do the same to the same types."""
        numbers: dict[Any, int] = {}
        kinds = np.empty(len(self.equations), np.int32)
        for n, equation in enumerate(self.equations):
            key: Any = n
            if not equation.effects:
                key = (
                    equation.primitive,
                    tuple([a.aval for a in equation.inputs]),
                    param_key(equation.params) if equation.params else None,
                )
            kinds[n] = numbers.setdefault(key, len(numbers))
        return kinds

    def _distances(self) -> list[np.ndarray[Any, Any]]:
        """For the first operands of each equation, how far before it they were computed."""
        slots = min(max([len(e.inputs) for e in self.equations], default=0), 3)
        distances = [np.zeros(len(self.equations), np.int32) for _ in range(slots)]
        for n, equation in enumerate(self.equations):
            for distance, atom in zip(distances, equation.inputs, strict=False):
                if type(atom) is Variable:
                    place = self.places.get(atom)
                    distance[n] = _FAR if place is None else n - place[0]
        return distances

    # --- one candidate ----------------------------------------------------------------------------

    def _try(self, start: int, stop: int, period: int) -> bool:
        start, stop = self._untaken(start, stop)
        if not _worthwhile((stop - start) // period, period) or self._effort <= 0:
            return False
        start += self._phase(start, period, (stop - start) // period)
        repeat = self._checked(Repeat(start, period, (stop - start) // period))
        if repeat is None:
            return False
        self.found.append(repeat)
        self._free[repeat.start : repeat.stop] = False
        self._owners[repeat.start : repeat.stop] = [repeat] * (repeat.stop - repeat.start)
        return True

    def _untaken(self, start: int, stop: int) -> tuple[int, int]:
        """The longest part of a range that no repeat has yet."""
        free = np.concatenate(([False], self._free[start:stop], [False]))
        edges = np.flatnonzero(np.diff(free.view(np.int8)))
        if len(edges) == 0:
            return start, start
        k = int(np.argmax(edges[1::2] - edges[::2]))
        return start + int(edges[2 * k]), start + int(edges[2 * k + 1])

    def _phase(self, start: int, period: int, count: int) -> int:
        """Where iterations should begin, from `start` on, so that they hand over the fewest values.

        A value computed at d and last read at l is handed over if one begins after d, and up to l.
        """
        middle = start + count // 2 * period
        last: dict[Variable, int] = {}
        for n in range(middle, min(middle + 3 * period, start + count * period)):
            for atom in self.equations[n].inputs:
                place = self.places.get(atom) if type(atom) is Variable else None
                if place is None or not middle <= place[0] < middle + period:
                    continue
                if n - place[0] <= 2 * period:
                    last[cast("Variable", atom)] = n
        steps = np.zeros(4 * period + 2, np.int32)
        for variable, reader in last.items():
            steps[self.places[variable][0] - middle + 1] += 1
            steps[reader - middle + 1] -= 1
        handed = np.cumsum(steps)[: 4 * period].reshape(4, period).sum(0)
        return int(np.argmin(handed))

    def _checked(self, repeat: Repeat) -> Repeat | None:
        """The iterations whose operands all come from where those of the middle one do."""
        middle = repeat.count // 2
        if repeat.count < FEWEST:
            return None
        for k in range(repeat.period):
            slots = self._slots(repeat, k, middle)
            if slots is None:
                return None
            repeat.sources.append(slots)
        bad, renewed = self._exceptions(repeat)
        first, stop = _longest(repeat.count, bad, renewed)
        if not _worthwhile(stop - first, repeat.period):
            return None
        return self._trimmed(repeat, first, stop)

    def _slots(self, repeat: Repeat, k: int, middle: int) -> list[Source] | None:
        operands = [self._operands(repeat, i, k) for i in (middle - 1, middle, middle + 1)]
        self._effort -= 3 * len(operands[1])
        slots: list[Source] = []
        for before, atom, after in zip(*operands, strict=True):
            source = self._source(repeat, middle, before, atom)
            if source is None or not self._holds(repeat, source, middle + 1, after):
                return None
            slots.append(source)
        return slots

    def _operands(self, repeat: Repeat, iteration: int, k: int) -> Sequence[Atom]:
        return self.equations[repeat.place(iteration, k)].inputs

    def _source(self, repeat: Repeat, i: int, before: Atom, atom: Atom) -> Source | None:
        """Where an operand of iteration i comes from, given that of the iteration before."""
        if type(atom) is Literal:
            if _same(before, atom):
                return Fixed(atom)
            return Varying(()) if _is_small(before) and _is_small(atom) else None
        if before is atom:
            return Fixed(atom)
        place = self.places.get(atom)
        if place is None:
            return None
        n, output = place
        if n < repeat.start:
            return self._kept(i, before, n, output) or self._rows(i, before, n, output)
        iteration, k = divmod(n - repeat.start, repeat.period)
        if iteration == i:
            return Within(k, output)
        return Carried(k, output, atom) if iteration == i - 1 else None

    def _kept(self, i: int, before: Atom, n: int, output: int) -> Kept | None:
        owner = self._owners[n]
        place = self.places.get(before) if type(before) is Variable else None
        if owner is None or place is None or self._owners[place[0]] is not owner:
            return None
        now, k = divmod(n - owner.start, owner.period)
        step = now - (place[0] - owner.start) // owner.period
        return Kept(owner, k, output, now - step * i, step) if step != 0 else None

    def _rows(self, i: int, before: Atom, n: int, output: int) -> Rows | None:
        equation = self.equations[n]
        if equation.primitive.name != "unstack" or equation.params["axis"] != 0:
            return None
        place = self.places.get(before) if type(before) is Variable else None
        if place is None or place[0] != n:
            return None
        step = output - place[1]
        return Rows(n, output - step * i, step)

    def _holds(self, repeat: Repeat, source: Source, i: int, atom: Atom) -> bool:
        """Whether an operand of iteration i comes from there."""
        kind = type(source)
        if kind is Fixed:
            fixed = cast("Fixed", source).atom
            if type(fixed) is Literal:
                return _same(fixed, atom)
            place = self.places.get(fixed)
            return atom is fixed and (place is None or place[0] < repeat.place(i, 0))
        if kind is Varying:
            return _is_small(atom)
        place = self.places.get(atom) if type(atom) is Variable else None
        if kind is Kept:
            kept = cast("Kept", source)
            other = kept.first + kept.step * i
            within = 0 <= other < kept.repeat.count
            return within and place == (kept.repeat.place(other, kept.equation), kept.output)
        if kind is Rows:
            rows = cast("Rows", source)
            return place == (rows.place, rows.first + rows.step * i)
        result = cast("Within | Carried", source)
        other = i - 1 if kind is Carried else i
        return place == (repeat.place(other, result.equation), result.output)

    def _exceptions(self, repeat: Repeat) -> tuple[list[bool], list[bool]]:
        """Iterations that do not fit, and those that fit as first ones alone."""
        bad, renewed = [False] * repeat.count, [False] * repeat.count
        for k, slots in enumerate(repeat.sources):
            self._effort -= repeat.count * len(slots)
            for slot, source in enumerate(slots):
                for i in range(repeat.count):
                    atom = self._operands(repeat, i, k)[slot]
                    if self._holds(repeat, source, i, atom):
                        continue
                    place = self.places.get(atom) if type(atom) is Variable else None
                    early = place is None or place[0] < repeat.place(i, 0)
                    if type(source) is Carried and early:
                        renewed[i] = True
                    else:
                        bad[i] = True
        return bad, renewed

    def _trimmed(self, repeat: Repeat, first: int, stop: int) -> Repeat:
        """The repeat of some of its iterations, with what differs from one to the next."""
        trimmed = Repeat(repeat.place(first, 0), repeat.period, stop - first)
        for k, slots in enumerate(repeat.sources):
            sources: list[Source] = []
            for slot, source in enumerate(slots):
                if type(source) is Carried:
                    source = source._replace(first=self._operands(trimmed, 0, k)[slot])
                elif type(source) is Kept or type(source) is Rows:
                    source = source._replace(first=source.first + source.step * first)
                elif type(source) is Varying:
                    atoms = [self._operands(trimmed, i, k)[slot] for i in range(trimmed.count)]
                    source = Varying(tuple(cast("list[Literal]", atoms)))
                sources.append(source)
            trimmed.sources.append(sources)
        return trimmed


def _periods(kinds: np.ndarray[Any, Any]) -> list[int]:
    """Periods to try, from short to long, for the numbers of a program's equations.

    What an iteration hands to the second one after it takes a period of two, and so on.
    """
    found: set[int] = set()
    words, length = kinds.astype(np.uint64), 1
    for power in range(max(WORDS) + 1):
        if power in WORDS:
            order = np.argsort(words, kind="stable")
            again = words[order[1:]] == words[order[:-1]]
            counts = np.bincount(np.diff(order)[again], minlength=1)
            often = np.argsort(-counts, kind="stable")[:PERIODS]
            found.update([d for d in often.tolist() if counts[d] >= FEWEST - 1])
        if len(words) <= length:
            break
        words = words[:-length] * np.uint64(0x9E3779B97F4A7C15) + words[length:]
        length *= 2
    multiples = {n * period for period in found for n in (1, 2, 3)}
    return sorted([period for period in multiples if FEWEST * period <= len(kinds)])


def _worthwhile(count: int, period: int) -> bool:
    return count >= FEWEST and (count - 1) * period >= SAVED


def _longest(count: int, bad: Sequence[bool], renewed: Sequence[bool]) -> tuple[int, int]:
    """The longest run of iterations of which none is bad, and none but the first is renewed."""
    best, first = (0, 0), 0
    for i in range(count + 1):
        if i == count or bad[i] or renewed[i]:
            best = max(best, (first, i), key=lambda run: run[1] - run[0])
            first = i + 1 if i < count and bad[i] else i
    return best


def _is_small(atom: Atom) -> bool:
    if type(atom) is not Literal or not isinstance(atom.aval.dtype, np.dtype):
        return False
    return atom.aval.shape == () or atom.aval.size <= LARGEST


def _same(a: Atom, b: Atom) -> bool:
    if type(a) is not Literal or type(b) is not Literal:
        return a is b
    if a.value is b.value:
        return True
    return _is_small(a) and _is_small(b) and a.value._value.tobytes() == b.value._value.tobytes()
