"""The backend protocol and registry: how a program becomes something that runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from covector.core import ladder
from covector.core.array import Array
from covector.core.collection import collection_paused
from covector.core.config import config
from covector.core.program import Program


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        effort: 0 compiles fastest, 3 runs fastest.
        name: for profiles and error messages.
    """

    effort: int = 2
    name: str = ""


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
    """Compiles programs."""

    name: str

    def compile(self, program: Program, options: Options) -> Executable:
        """Makes a program executable."""
        ...


_factories: dict[str, Callable[[], Backend]] = {}
_backends: dict[str, Backend] = {}


def register_backend(name: str, factory: Callable[[], Backend] | str) -> None:
    """Makes a backend available as `jit(f, backend=name)`.

    Args:
        name: how users choose it.
        factory: called at first use, or "module:function" to import it from.
    """
    _factories[name] = _imported(factory) if isinstance(factory, str) else factory
    _backends.pop(name, None)


def _imported(path: str) -> Callable[[], Backend]:
    """What "module:function" names, imported when it is called."""
    module, _, attribute = path.partition(":")

    def factory() -> Backend:
        return getattr(importlib.import_module(module), attribute)()

    return factory


def get_backend(name: str | None = None) -> Backend:
    """The backend called `name`, by default the one of `COVECTOR_BACKEND`.

    Raises:
        ValueError: if there is none of that name; the message lists those there are.
    """
    name = name or config.backend
    if name not in _backends:
        if name not in _factories:
            raise ValueError(f"no backend named {name!r}; there are {sorted(_factories)}")
        _backends[name] = _factories[name]()
    return _backends[name]


@dataclass
class _Cache:
    """Compiled programs by structure, the oldest dropped first."""

    limit: int = 4096
    entries: dict[Any, Executable] = field(default_factory=dict[Any, Any])

    def get(self, program: Program, options: Options, backend: str | None) -> Executable:
        key = (program.key(), options, config.disable, config.cpu, backend or config.backend)
        found = self.entries.get(key)
        if found is None:
            with collection_paused(), ladder.compilation(options.name, program) as done:
                found = get_backend(backend).compile(program, options)
                done(found)
            while len(self.entries) >= self.limit:
                self.entries.pop(next(iter(self.entries)))
            self.entries[key] = found
        return found


_cache = _Cache()


def executable(
    program: Program, options: Options | None = None, backend: str | None = None
) -> Executable:
    """The compiled form of a program, from memory where an equal one was compiled before."""
    return _cache.get(program, options or Options(), backend)


def clear_cache() -> None:
    """Forgets every compiled program."""
    _cache.entries.clear()


register_backend("reference", "covector.backends.reference:ReferenceBackend")
register_backend("native", "covector.backends.native:NativeBackend")
