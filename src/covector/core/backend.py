"""The backend protocol and registry: how a program becomes something that runs."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from covector.core import ladder
from covector.core.array import Array
from covector.core.collection import collection_paused
from covector.core.config import config
from covector.core.errors import compose
from covector.core.program import Program, lines_of

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        effort: 0 compiles fastest, 3 runs fastest.
        name: for profiles and error messages.
        fixed_sizes: positions of inputs for whose sizes the program is compiled; code for those of
            other inputs may serve all sizes.
        donated: positions of inputs that end with a call, with what they are called: results may
            take their memory.
    """

    effort: int = 2
    name: str = ""
    fixed_sizes: tuple[int, ...] = ()
    donated: tuple[tuple[int, str], ...] = ()

    @property
    def overwritten(self) -> tuple[int, ...]:
        """Positions of the donated inputs."""
        return tuple([k for k, _ in self.donated])


class Donation(NamedTuple):
    """A result in the memory of a donated argument.

    Attributes:
        argument: its number.
        result: its number.
        holds: whether the result's buffer has the argument's elements when the code begins.
    """

    argument: int
    result: int
    holds: bool


class Executable(Protocol):
    """A compiled program: called with flat arrays, returns flat arrays."""

    def __call__(self, *args: Any) -> Sequence[Array]: ...

    def as_text(self, stage: str = "") -> str:
        """The code at one stage of compilation, for people."""
        ...

    def cost(self) -> dict[str, Any]:
        """Estimated flops and bytes, and the buffers."""
        ...


class Backend(Protocol):
    """Compiles programs.

    It may declare `devices`, for `device_put`; and `level = "loop IR"` if it compiles what the
    lowering rules of primitives make, so that others can be derived from it.
    """

    name: str

    def compile(self, program: Program, options: Options) -> Executable:
        """Makes a program executable."""
        ...


ENTRY_POINTS = "covector.backends"
"""The group of entry points by which installed packages offer backends."""

_factories: dict[str, Callable[[], Backend]] = {}
_backends: dict[str, Backend] = {}


def register_backend(name: str, factory: Callable[[], Backend] | str) -> None:
    """Makes a backend available as `jit(f, backend=name)`.

    It takes the place of one of that name, but for functions that are compiled already.

    Args:
        name: how users choose it.
        factory: called at first use, or "module:function" to import it from.
    """
    _factories[name] = _imported(factory) if isinstance(factory, str) else factory
    if _backends.pop(name, None) is not None:
        _cache.clear()  # what another one of that name compiled, or was asked to by others


def _imported(path: str) -> Callable[[], Backend]:
    """What "module:function" names, imported when it is called."""
    module, _, attribute = path.partition(":")

    def factory() -> Backend:
        return getattr(importlib.import_module(module), attribute)()

    return factory


def get_backend(name: str | None = None) -> Backend:
    """The backend called `name`, by default the one of `COVECTOR_BACKEND`.

    A package offers one by an entry point of the group `covector.backends`, which names what makes
    the backend; the package is imported when its backend is first asked for.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
        ImportError: if a package offers it, but cannot be imported or makes none.
    """
    name = name or config.backend
    if name not in _backends:
        factory = _factories.get(name)
        _backends[name] = _offered(name) if factory is None else factory()
    return _backends[name]


def backend_names() -> list[str]:
    """The names of the backends that are registered or that installed packages offer."""
    return sorted({*_factories, *[point.name for point in _entry_points()]})


def _entry_points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINTS))


def _offered(name: str) -> Backend:
    """A backend that an installed package offers."""
    points = {point.value: point for point in _entry_points() if point.name == name}
    if not points:
        raise ValueError(f"no backend named {name!r}; there are {backend_names()}")
    owners = [f"{_owner(point)} ({value})" for value, point in points.items()]
    if len(points) > 1:
        raise ValueError(
            compose(
                f"more than one installed package offers a backend named {name!r}",
                found=", ".join(owners),
                fix="uninstall all but one, or register the one you want: register_backend",
            )
        )
    (point,) = points.values()
    try:
        backend = point.load()()
    except Exception as error:
        raise ImportError(
            compose(
                f"the backend {name!r} of the package {owners[0]} cannot be used",
                found=f"{type(error).__name__}: {error}",
                fix="repair or uninstall that package; other backends are not affected",
            )
        ) from error
    if not callable(getattr(backend, "compile", None)):
        raise ImportError(
            compose(
                f"the backend {name!r} of the package {owners[0]} cannot be used",
                found=f"its entry point makes a {type(backend).__name__} without `compile`",
                fix="let it name a class or function that gives a backend",
            )
        )
    return backend


def _owner(point: EntryPoint) -> str:
    return "unknown" if point.dist is None else point.dist.name


def debug_key(program: Program) -> tuple[str, ...]:
    """What code has of a program with the setting `debug_info`: its name and the user's lines."""
    return (program.name, *lines_of(program)) if config.debug_info else ()


@dataclass
class _Cache:
    """Compiled programs by structure; those that were not asked for for the longest time go first.

    Attributes:
        limit: how many there may be.
        limit_bytes: how much memory their code and constants may take.
    """

    limit: int = 4096
    limit_bytes: int = 512 << 20
    entries: dict[Any, Executable] = field(default_factory=dict[Any, Any])
    nbytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, program: Program, options: Options, backend: str | None) -> Executable:
        key = (
            program.key(),
            options,
            config.disable,
            config.passes,
            config.cpu,
            debug_key(program),
            backend or config.backend,
        )
        with self._lock:
            found = self.entries.pop(key, None)
            if found is not None:
                self.entries[key] = found  # the last to go
                return found
        with collection_paused(), ladder.compilation(options.name, program) as done:
            found = get_backend(backend).compile(program, options)
            done(found)
        with self._lock:
            known = self.entries.setdefault(key, found)  # another thread may have been faster
            if known is found:
                self.nbytes += _nbytes(found)
                self._make_room()
        return known

    def _make_room(self) -> None:
        while len(self.entries) > 1 and (
            len(self.entries) > self.limit or self.nbytes > self.limit_bytes
        ):
            self.nbytes -= _nbytes(self.entries.pop(next(iter(self.entries))))

    def clear(self) -> None:
        with self._lock:
            self.entries.clear()
            self.nbytes = 0


def _nbytes(executable: Executable) -> int:
    return getattr(executable, "nbytes", 0)


_cache = _Cache()


def executable(
    program: Program, options: Options | None = None, backend: str | None = None
) -> Executable:
    """The compiled form of a program, from memory where an equal one was compiled before."""
    return _cache.get(program, options or Options(), backend)


def clear_cache() -> None:
    """Forgets every compiled program."""
    _cache.clear()
    for backend in _backends.values():
        forget = getattr(backend, "forget", None)
        if forget is not None:
            forget()


register_backend("reference", "covector.backends.reference:ReferenceBackend")
register_backend("native", "covector.backends.native:NativeBackend")
