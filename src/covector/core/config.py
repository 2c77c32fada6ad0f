"""Settings: process-wide values, thread-local overrides, and the environment variables behind them.

Each setting has one row in `SETTINGS`, an environment variable that gives its first value, and a
context manager that overrides it for the current thread. The settings are:

=============  =========================  ====================================================
`x64`          `COVECTOR_ENABLE_X64`      64-bit dtypes; when off, they become 32-bit ones
`debug`        `COVECTOR_DEBUG`           the debug ladder, 0 to 6; each rung prints more:
                                          1 compilations, 2 programs, 3 programs after every
                                          pass, 4 loop IR, 5 LLVM text, 6 machine code
`dump`         `COVECTOR_DUMP`            a directory that receives every stage of compilation
`check`        `COVECTOR_CHECK`           verify programs and loop IR after every pass
`debug_nans`   `COVECTOR_DEBUG_NANS`      raise where a result contains a NaN
`debug_infs`   `COVECTOR_DEBUG_INFS`      raise where a result contains an infinity
`disable_jit`  `COVECTOR_DISABLE_JIT`     run functions under `jit` eagerly
`backend`      `COVECTOR_BACKEND`         the backend `jit` compiles with
`num_threads`  `COVECTOR_NUM_THREADS`     threads of the pool; 0 is one for each core
`tape_bytes`   `COVECTOR_TAPE_BYTES`      how much one loop may keep for its derivative before it
                                          computes some of it again, as in 500M or 4G; 0 is a
                                          quarter of the machine's memory
`disable`      `COVECTOR_DISABLE`         optimisations to leave out, with commas between:
                                          names from `OPTIMIZATIONS`
`passes`       `COVECTOR_PASSES`          passes of users' own, for `covector.extend.passes` to set;
                                          in the environment module:name, with commas between
`cpu`          `COVECTOR_CPU`             the processor code is for: native (this one), or a level
                                          that others have too: x86-64, x86-64-v2, -v3, -v4
`cache_dir`    `COVECTOR_CACHE_DIR`       where compiled programs are kept for later processes;
                                          empty is `covector` in the user's cache directory
`perf_map`     `COVECTOR_PERF_MAP`        tell Linux's perf the names of compiled functions
`debug_info`   `COVECTOR_DEBUG_INFO`      show gdb (and perf) the user's lines in compiled functions
`cache_size`   `COVECTOR_CACHE_SIZE`      how much they may take, as in 512M or 2G; 0 keeps none
=============  =========================  ====================================================

Reading one is an attribute read: `config.x64`.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from covector import _native

OPTIMIZATIONS: dict[str, str] = {
    "arg_blocks": "the place of an extremum looked for in the one block that has it",
    "constants": "computing what is known beforehand, constants that loops carry too",
    "contraction": "a product and a sum rounded once, as one operation",
    "cse": "computing equal things once",
    "disk_cache": "keeping compiled programs for later processes",
    "distribution": "what all lanes of a loop share runs in a loop of its own",
    "donation": "results in the memory of donated arguments",
    "even_steps": "loops of few steps in fewer lanes, of which they are a multiple",
    "fewer_passes": "passes of LLVM that gain little here are left out",
    "half_powers": "powers with constant exponents as products, roots and quotients",
    "in_place": "arrays overwritten by updates, loops and branches after their last use",
    "invariants": "costly operations that are the same in each iteration, before the loop",
    "lane_branches": "what only some lanes need is left out by the vectors of others",
    "lanes": "loops over a batch run lane by lane",
    "lane_ways": "these loops in chunks of lanes, or not apart, where that takes less time",
    "library_products": "large products of matrices by BLAS",
    "parallel_compile": "LLVM compiles parts of a large program on several threads",
    "ranges": "loops split where conditions on their index change",
    "repeated_loops": "loops that are equal but for their arrays are compiled once",
    "residuals": "recomputing cheap residuals of loops instead of keeping them",
    "row_fusion": "loops over the same range as one loop",
    "rows_ahead": "the next row of a large array fetched while one is worked on",
    "run_time_sizes": "one compiled program for all sizes of a batch",
    "rolling": "steps that a Python loop wrote out are loops",
    "rolled_reductions": "short reductions of what is in memory are loops",
    "segments": "loops whose tape would exceed `tape_bytes` are cut into segments",
    "shared_functions": "elementary functions called where they run once, not inlined",
    "small_linalg": "small matrices factorised by code spelled out for them, not by LAPACK",
    "streaming_stores": "large results stored past the caches",
    "superwords": "isomorphic scalar operations of a loop body become vectors",
    "threads": "loops of independent iterations run on several threads",
    "transposed_reads": "matrices read across their rows in tiles, transposed in registers",
    "transposes": "products that read their operands transposed instead of copies",
    "user_passes": "passes that users registered",
}
"""What `disable` can leave out. None of them is needed for a result, only for its speed."""

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off", ""))


def _parse_bool(value: Any) -> bool:
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
    elif isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError("expected a boolean: 1, true, yes, on, or 0, false, no, off")


def _parse_level(value: Any) -> int:
    level = _parse_count(value)
    if level > 6:
        raise ValueError("expected a level from 0 to 6")
    return level


def _parse_count(value: Any) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        raise ValueError("expected a non-negative integer") from None
    if count < 0:
        raise ValueError("expected a non-negative integer")
    return count


def _parse_path(value: Any) -> str:
    return "" if value is None else str(value)


def _parse_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a name")
    return value


def _parse_optimizations(value: Any) -> frozenset[str]:
    names: list[str] = value.split(",") if isinstance(value, str) else list(value)
    chosen = frozenset([n.strip() for n in names]) - {""}
    if unknown := sorted(chosen - OPTIMIZATIONS.keys()):
        raise ValueError(
            f"there is no optimisation {', '.join(unknown)}; there are: {', '.join(OPTIMIZATIONS)}"
        )
    return chosen


def _parse_passes(value: Any) -> tuple[Any, ...]:
    """Passes as they are, or the names to import them by."""
    if not isinstance(value, str):
        return tuple(value)
    names = [name.strip() for name in value.split(",") if name.strip()]
    if wrong := [name for name in names if not all(name.partition(":")[::2])]:
        raise ValueError(f"expected module:name, found {', '.join(wrong)}")
    return tuple(names)


CPUS = ("native", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
"""What `cpu` may be."""


def _parse_cpu(value: Any) -> str:
    if value in ("", None):
        return "native"
    if value not in CPUS:
        raise ValueError(f"expected one of {', '.join(CPUS)}")
    return value


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _parse_bytes(value: Any) -> int:
    text = str(value).strip().upper()
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        return _parse_count(text.removesuffix(unit)) * _UNITS[unit]
    except ValueError:
        raise ValueError("expected a number of bytes, as in 1048576, 512M or 2G") from None


class Setting(NamedTuple):
    """One row of `SETTINGS`: where a setting comes from and what depends on it."""

    variable: str
    default: Any
    parse: Callable[[Any], Any]
    traced: bool
    """Whether traced programs depend on it, so that a change makes `jit` trace again."""


SETTINGS: dict[str, Setting] = {
    "x64": Setting("COVECTOR_ENABLE_X64", False, _parse_bool, traced=True),
    "debug": Setting("COVECTOR_DEBUG", 0, _parse_level, traced=False),
    "dump": Setting("COVECTOR_DUMP", "", _parse_path, traced=False),
    "check": Setting("COVECTOR_CHECK", False, _parse_bool, traced=True),
    "debug_nans": Setting("COVECTOR_DEBUG_NANS", False, _parse_bool, traced=True),
    "debug_infs": Setting("COVECTOR_DEBUG_INFS", False, _parse_bool, traced=True),
    "disable_jit": Setting("COVECTOR_DISABLE_JIT", False, _parse_bool, traced=True),
    "backend": Setting("COVECTOR_BACKEND", "native", _parse_name, traced=True),
    "num_threads": Setting("COVECTOR_NUM_THREADS", 0, _parse_count, traced=False),
    "tape_bytes": Setting("COVECTOR_TAPE_BYTES", 0, _parse_bytes, traced=True),
    "disable": Setting("COVECTOR_DISABLE", frozenset[str](), _parse_optimizations, traced=True),
    "passes": Setting("COVECTOR_PASSES", (), _parse_passes, traced=True),
    "cpu": Setting("COVECTOR_CPU", "native", _parse_cpu, traced=True),
    "cache_dir": Setting("COVECTOR_CACHE_DIR", "", _parse_path, traced=False),
    "perf_map": Setting("COVECTOR_PERF_MAP", False, _parse_bool, traced=False),
    "debug_info": Setting("COVECTOR_DEBUG_INFO", False, _parse_bool, traced=True),
    "cache_size": Setting("COVECTOR_CACHE_SIZE", 1 << 30, _parse_bytes, traced=False),
}

# Names that code written for JAX passes to `config.update`.
_ALIASES = {
    "enable_x64": "x64",
    "jax_enable_x64": "x64",
    "jax_debug_nans": "debug_nans",
    "jax_debug_infs": "debug_infs",
    "jax_disable_jit": "disable_jit",
}
_TRACED = tuple(name for name, setting in SETTINGS.items() if setting.traced)


def _from_environment(name: str) -> Any:
    setting = SETTINGS[name]
    text = os.environ.get(setting.variable)
    if text is None:
        return setting.default
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ValueError(f"environment variable {setting.variable}={text!r}: {error}") from None


class Config(threading.local):
    """The settings as this thread sees them; there is one instance, `config`.

    A class attribute holds the value for the process and an instance attribute, which
    `threading.local` keeps apart for each thread, an override; so a read needs no code of ours.
    """

    x64: bool = _from_environment("x64")
    debug: int = _from_environment("debug")
    dump: str = _from_environment("dump")
    check: bool = _from_environment("check")
    debug_nans: bool = _from_environment("debug_nans")
    debug_infs: bool = _from_environment("debug_infs")
    disable_jit: bool = _from_environment("disable_jit")
    backend: str = _from_environment("backend")
    num_threads: int = _from_environment("num_threads")
    tape_bytes: int = _from_environment("tape_bytes")
    disable: frozenset[str] = _from_environment("disable")
    passes: tuple[Any, ...] = _from_environment("passes")
    cpu: str = _from_environment("cpu")
    cache_dir: str = _from_environment("cache_dir")
    perf_map: bool = _from_environment("perf_map")
    debug_info: bool = _from_environment("debug_info")
    cache_size: int = _from_environment("cache_size")
    epoch: int = 0
    """A number for the settings that traced programs depend on: equal when they all are."""

    def __setattr__(self, name: str, value: Any) -> None:
        self.update(name, value)

    def update(self, name: str, value: Any) -> None:
        """Set a setting for the whole process.

        Args:
            name: a name from `SETTINGS`; JAX's names for the same thing are accepted.
            value: its new value; strings are read as in the environment.

        Raises:
            AttributeError: there is no such setting.
            ValueError: the value does not fit it.

        Example:
            >>> config.update("enable_x64", False)
        """
        name = resolve_name(name)
        parsed = parse_value(name, value)
        with _lock:
            setattr(Config, name, parsed)
            Config.epoch = _epoch_of({})
            _native.set_config_epoch(Config.epoch)
            _native.set_x64(Config.x64)
            _native.set_num_threads(Config.num_threads)
            for overrides in _overriding.values():
                overrides["epoch"] = _epoch_of(overrides)
            _renew_watching()

    def trace_key(self) -> tuple[Any, ...]:
        """The settings that traced programs depend on, for the keys of caches."""
        return _trace_keys[self.epoch]

    def override(self, name: str, value: Any) -> Override:
        """A context manager that gives a setting another value in this thread."""
        name = resolve_name(name)
        return Override(name, parse_value(name, value))


# Re-entrant: a signal handler may change a setting while this thread does.
_lock = threading.RLock()
_epochs: dict[tuple[Any, ...], int] = {}
_trace_keys: list[tuple[Any, ...]] = []
# The override dictionaries of the threads that have any, so that `update` can renew their epochs.
_overriding: dict[int, dict[str, Any]] = {}


def _epoch_of(overrides: dict[str, Any]) -> int:
    key = tuple([overrides.get(name, getattr(Config, name)) for name in _TRACED])
    epoch = _epochs.get(key)
    if epoch is None:
        epoch = _epochs[key] = len(_trace_keys)
        _trace_keys.append(key)
    return epoch


Config.epoch = _epoch_of({})
config = Config()
# Native code reads neither Python attributes nor environment variables: it is told of changes.
_native.set_config_epoch(Config.epoch)
_native.set_x64(Config.x64)
_native.set_num_threads(Config.num_threads)


watching = False
"""Whether any thread may check results for NaNs: what is read where every operation passes."""

_CHECKS = ("debug_nans", "debug_infs")


def _renew_watching() -> None:
    global watching
    everywhere = [getattr(Config, name) for name in _CHECKS]
    somewhere = [o.get(name, False) for o in _overriding.values() for name in _CHECKS]
    watching = any(everywhere) or any(somewhere)
    # Operators in C do not look at what they compute.
    _native.set_eager_fast_path(not watching)


_renew_watching()


def resolve_name(name: str) -> str:
    """The setting a name stands for."""
    resolved = _ALIASES.get(name, name)
    if resolved not in SETTINGS:
        raise AttributeError(f"no setting is called {name!r}; there are: {', '.join(SETTINGS)}")
    return resolved


def parse_value(name: str, value: Any) -> Any:
    """A value checked and converted for a setting."""
    try:
        return SETTINGS[name].parse(value)
    except ValueError as error:
        raise ValueError(f"setting {name}={value!r}: {error}") from None


_ABSENT = object()


class Override(contextlib.ContextDecorator):
    """Gives a setting another value in the current thread, for a `with` block or a function."""

    def __init__(self, name: str, value: Any) -> None:
        self._name = name
        self._value = value
        # A stack for each thread: as a decorator, one override is entered many times.
        self._saved = threading.local()

    def __enter__(self) -> None:
        overrides: dict[str, Any] = config.__dict__
        stack: list[Any] = self._saved.__dict__.setdefault("stack", [])
        stack.append(overrides.get(self._name, _ABSENT))
        _set_override(overrides, self._name, self._value)

    def __exit__(self, *exception: object) -> None:
        _set_override(config.__dict__, self._name, self._saved.stack.pop())


def _set_override(overrides: dict[str, Any], name: str, value: Any) -> None:
    thread = threading.get_ident()
    with _lock:
        if value is _ABSENT:
            overrides.pop(name, None)
        else:
            overrides[name] = value
        if overrides.keys() <= {"epoch"}:
            overrides.clear()
            _overriding.pop(thread, None)
            _native.set_thread_config(0)
        else:
            overrides["epoch"] = _epoch_of(overrides)
            _overriding[thread] = overrides
            _native.set_thread_config(overrides["epoch"] + 1)
        if name in _CHECKS:
            _renew_watching()
        _native.set_thread_x64(overrides.get("x64"))
        _native.set_thread_num_threads(overrides.get("num_threads"))


def enable_x64(new_val: bool = True) -> Override:
    """Allow 64-bit dtypes within a block or function.

    Args:
        new_val: False forbids them instead.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with enable_x64():
        ...     config.x64
        True
    """
    return Override("x64", _parse_bool(new_val))


def debug_nans(new_val: bool = True) -> Override:
    """Raise `FloatingPointError` within a block where a result contains a NaN.

    The message names the operation and the user's line, the iteration of loops, the lane of a
    batch, and whether it is in a backward pass. Of a function under `jit` the results are checked;
    if they have a NaN the interpreter runs it again to find the operation.

    Args:
        new_val: False turns the check off instead.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with debug_nans():
        ...     config.debug_nans
        True
    """
    return Override("debug_nans", _parse_bool(new_val))


def debug_infs(new_val: bool = True) -> Override:
    """Raise `FloatingPointError` within a block where a result contains an infinity.

    Args:
        new_val: False turns the check off instead.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with debug_infs():
        ...     config.debug_infs
        True
    """
    return Override("debug_infs", _parse_bool(new_val))


def disable_jit(disable: bool = True) -> Override:
    """Run functions under `jit` eagerly within a block, to debug them with Python's tools.

    Args:
        disable: False turns `jit` on again.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with disable_jit():
        ...     config.disable_jit
        True
    """
    return Override("disable_jit", _parse_bool(disable))


def debug_level(level: int) -> Override:
    """Climb the debug ladder within a block; the twin of `COVECTOR_DEBUG`.

    Args:
        level: 0 (silent) to 6 (everything).

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with debug_level(2):
        ...     config.debug
        2
    """
    return config.override("debug", level)


def dump_to(directory: str | os.PathLike[str]) -> Override:
    """Write every stage of compilation into a directory; the twin of `COVECTOR_DUMP`.

    Args:
        directory: where to; it is made when first needed. Empty turns dumping off.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with dump_to("/tmp/programs"):
        ...     config.dump
        '/tmp/programs'
    """
    return config.override("dump", directory)


def checked(check: bool = True) -> Override:
    """Verify the IR after every pass within a block; the twin of `COVECTOR_CHECK`.

    Args:
        check: False turns verification off instead.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with checked():
        ...     config.check
        True
    """
    return config.override("check", check)


def default_backend(name: str) -> Override:
    """Compile with another backend within a block; the twin of `COVECTOR_BACKEND`.

    Args:
        name: the name of a registered backend.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with default_backend("reference"):
        ...     config.backend
        'reference'
    """
    return config.override("backend", name)


def num_threads(count: int) -> Override:
    """Use a number of threads within a block; the twin of `COVECTOR_NUM_THREADS`.

    Args:
        count: at most so many threads; 0 is one for each core.

    Returns:
        A context manager and decorator; it holds for the current thread.

    Example:
        >>> with num_threads(1):
        ...     config.num_threads
        1
    """
    return config.override("num_threads", count)
