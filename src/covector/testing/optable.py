"""The op table: one row for each operation, from which tests of all of them are generated.

A row says how to call an operation, what operands it takes, and what its twin in NumPy and in JAX
is. Tests of evaluation, derivatives, batching, compilation and backends walk the rows. A family of
operations adds its rows by putting a module into the package `covector.testing.rows` that defines
`ROWS`; it is found by its being there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, reduce
from typing import Any

import numpy as np

from covector.core import dtypes

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Twin = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[..., Any]
)
"""A function of NumPy arrays; the alternatives give lambdas the types of their parameters."""

FLOATS = ("f16", "bf16", "f32", "f64")
COMPLEXES = ("c64", "c128")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = INTEGERS + FLOATS + COMPLEXES
ORDERED = ("bool",) + INTEGERS + FLOATS


@dataclass(frozen=True)
class Domain:
    """Where operands are drawn from, uniformly.

    Attributes:
        low: least value (of each part, for complex numbers).
        high: greatest value.
        avoid: points where the operation has no derivative or varies too fast.
        margin: how far to stay away from these.
        whole: only whole numbers.
    """

    low: float = -2.0
    high: float = 2.0
    avoid: tuple[float, ...] = ()
    margin: float = 0.1
    whole: bool = False

    def sample(self, rng: np.random.Generator, dtype: np.dtype[Any], shape: Shape) -> Array:
        """Random values of a dtype.

        Args:
            rng: source of randomness.
            dtype: any dtype of arrays.
            shape: of the result.

        Example:
            >>> import numpy as np
            >>> rng = np.random.default_rng(0)
            >>> x = Domain(-1, 1, avoid=(0,)).sample(rng, np.dtype("float32"), (100,))
            >>> bool((abs(x) >= 0.1).all()), x.dtype.name
            (True, 'float32')
        """
        if dtypes.is_bool(dtype):
            return rng.integers(0, 2, shape).astype(np.bool_)
        if dtypes.is_integer(dtype):
            info = np.iinfo(dtype)
            low = max(int(self.low), int(info.min))
            high = max(min(int(self.high), int(info.max)), low)
            return rng.integers(low, high, shape, dtype=dtype, endpoint=True)
        if dtypes.is_complex(dtype):
            parts = self._uniform(rng, shape) + 1j * self._uniform(rng, shape)
            return np.asarray(parts, dtype)
        return np.asarray(self._uniform(rng, shape), dtype)

    def _uniform(self, rng: np.random.Generator, shape: Shape) -> Array:
        x = np.asarray(rng.uniform(self.low, self.high, shape))
        if self.whole:
            x = np.rint(x)
        for point in self.avoid:
            moved = np.where(x < point, point - self.margin, point + self.margin)
            x = np.where(np.abs(x - point) < self.margin, moved, x)
        return x


@dataclass(frozen=True)
class Operand:
    """One operand of a row.

    Attributes:
        domain: where its values come from.
        dtype: short name, where it is not the dtype under test.
        shape: where it is not the shape under test.
    """

    domain: Domain = Domain()
    dtype: str | None = None
    shape: Shape | None = None

    def sample(self, rng: np.random.Generator, dtype: np.dtype[Any], shape: Shape) -> Array:
        """Random values, given the dtype and shape under test."""
        own: Any = dtype if self.dtype is None else dtypes.from_short_name(self.dtype)
        return self.domain.sample(rng, own, shape if self.shape is None else self.shape)


@dataclass(frozen=True)
class OpRow:
    """One operation, or one setting of its parameters.

    Attributes:
        name: unique in the table.
        op: called with the operands and `params`; a primitive, or a function made of them.
        operands: what it takes.
        dtypes: short names of the dtypes it is defined on.
        params: static parameters.
        numpy: the same in NumPy or SciPy for float64 operands, if there is such a function.
        jax: path of the same function in the package `jax`, as in "lax.add", if there is one.
        jax_params: the parameters there, where they differ from `params`.
        order: how many times it can be differentiated; 0 if derivatives vanish or do not exist.
        reverse: whether it can be differentiated in reverse mode.
        differentiable: positions of the operands with a derivative; `None` is all.
        edges: whether it agrees with JAX at NaN, infinities, zeros and other ends of the range.
        ulps: how far results may be from JAX's, in units in the last place of the dtype.
        roots: whether results have roots near which errors count relative to 1.
        compiled: whether native code can be made of it.
    """

    name: str
    op: Callable[..., Any]
    operands: tuple[Operand, ...] = (Operand(),)
    dtypes: tuple[str, ...] = FLOATS + COMPLEXES
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    numpy: Twin | None = None
    jax: str | None = None
    jax_params: Mapping[str, Any] | None = None
    order: int = 2
    reverse: bool = True
    differentiable: tuple[int, ...] | None = None
    edges: bool = True
    ulps: float = 8.0
    roots: bool = False
    compiled: bool = True

    def __call__(self, *operands: Any) -> Any:
        """Applies the operation."""
        return self.op(*operands, **self.params)

    def sample(
        self, seed: int | np.random.Generator, dtype: str, shape: Shape = (3, 4)
    ) -> list[Array]:
        """Random operands.

        Args:
            seed: a number or a generator.
            dtype: short name, one of `dtypes`.
            shape: of operands whose rows do not fix it.
        """
        rng = np.random.default_rng(seed)
        known = dtypes.from_short_name(dtype)
        assert isinstance(known, np.dtype)
        return [operand.sample(rng, known, shape) for operand in self.operands]

    def jax_twin(self, package: Any) -> Callable[..., Any]:
        """The same function in JAX.

        Args:
            package: the module `jax`, which nothing here imports.
        """
        assert self.jax is not None, f"{self.name} has no twin in JAX"
        function = reduce(getattr, self.jax.split("."), package)
        params = self.params if self.jax_params is None else self.jax_params
        return partial(function, **params)

    def __str__(self) -> str:
        return self.name


@cache
def families() -> dict[str, tuple[OpRow, ...]]:
    """The rows of every family, by the name of its module.

    Raises:
        ValueError: if two rows have one name.
    """
    from covector.testing import rows

    found: dict[str, tuple[OpRow, ...]] = {}
    names: set[str] = set()
    for module in pkgutil.iter_modules(rows.__path__):
        family = importlib.import_module(f"{rows.__name__}.{module.name}")
        for row in family.ROWS:
            if row.name in names:
                raise ValueError(f"the op table has two rows named {row.name!r}")
            names.add(row.name)
        found[module.name] = tuple(family.ROWS)
    return found


def all_rows() -> tuple[OpRow, ...]:
    """Every row of every family."""
    return tuple([row for rows in families().values() for row in rows])


def cases(
    table: tuple[OpRow, ...] | None = None, dtypes: tuple[str, ...] | None = None
) -> Iterator[tuple[OpRow, str]]:
    """Each row with each of its dtypes.

    Args:
        table: the rows, by default all.
        dtypes: only these.

    Yields:
        Pairs of a row and the short name of a dtype.
    """
    for row in all_rows() if table is None else table:
        for dtype in row.dtypes:
            if dtypes is None or dtype in dtypes:
                yield row, dtype


# --- the ends of the range, and how far apart results are ---------------------------------------

_MAGNITUDES = (
    *(np.nan, np.inf, 0.0, 1.0, 0.5, 2.0, 3.0, 1e-30, 1e30, 1e-3, 0.3, 0.7, 10.0, 80.0),
    *(100.0, 1000.0, 1e4, 0.9999, 1.0001, 2.5, 1.5, 3.2, 7.9, 30.5),
)
_WHOLE = (0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 100, -1, -2, -7, -100)


def edges_of(dtype: np.dtype[Any]) -> Array:
    """Values where operations tend to go wrong: NaN, infinities, zeros, the ends of the range.

    Args:
        dtype: bool, an integer or a real floating dtype.
    """
    if dtypes.is_bool(dtype):
        return np.array([False, True])
    if dtypes.is_integer(dtype):
        info = np.iinfo(dtype)
        low, high = int(info.min), int(info.max)
        values = {*_WHOLE, low, low + 1, high - 1, high}
        return np.array([v for v in sorted(values) if low <= v <= high], dtype)
    with np.errstate(over="ignore"):
        return np.array([sign * v for v in _MAGNITUDES for sign in (1, -1)]).astype(dtype)


def edge_operands(row: OpRow, dtype: str, limit: int = 5000) -> list[Array] | None:
    """Combinations of edges for the operands of a row.

    Args:
        row: of the table.
        dtype: short name, one of the row's.
        limit: how many combinations, drawn at random if there are more.

    Returns:
        One-dimensional operands of equal size, or `None` where the row has no use for them.
    """
    sampled = row.sample(0, dtype, (1,))
    fixed = any(operand.shape is not None for operand in row.operands)
    if not row.edges or fixed or any(dtypes.is_complex(x.dtype) for x in sampled):
        return None
    edges = [edges_of(x.dtype) for x in sampled]
    if len(edges) == 1:
        return edges
    count = int(np.prod([len(e) for e in edges]))
    if count <= limit:
        return [grid.ravel() for grid in np.meshgrid(*edges)]
    rng = np.random.default_rng(1)
    return [rng.choice(e, limit) for e in edges]


def ulps_between(found: Array, expected: Array, roots: bool = False) -> Array:
    """How far apart results are, in units in the last place of their dtype.

    Subnormal numbers, which XLA flushes, count as zero; NaN agrees with NaN. Complex numbers are
    compared as wholes, where they are finite.

    Args:
        found: real or complex numbers.
        expected: the same shape and dtype.
        roots: count relative to 1 where the expected number is smaller.
    """
    info: Any = dtypes.finfo(found.dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    if dtypes.is_complex(found.dtype):
        with np.errstate(all="ignore"):
            scale = np.maximum(np.abs(expected), 1.0 if roots else tiny / eps)
            return np.nan_to_num(np.abs(found - expected) / scale / eps)
    x, y = found.astype(np.float64), expected.astype(np.float64)
    vanish = (np.abs(x) < 2 * tiny) & (np.abs(y) < 2 * tiny)
    same = (x == y) | (np.isnan(x) & np.isnan(y)) | vanish
    with np.errstate(all="ignore"):
        difference = np.abs(x - y) / np.maximum(np.abs(y), 1.0 if roots else tiny) / eps
    return np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
