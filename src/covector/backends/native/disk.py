"""The directory of compiled programs: entries under keys, safe against whatever happens to it.

An entry is a file that is complete or not there: it is written under another name and renamed. A
checksum tells what was damaged later; such an entry is removed and counts as missing. Many
processes may read and write at once. The directory belongs to the user alone: where it does not,
nothing is read from it, since what it holds is run.

When the entries exceed the limit, those that were not read for the longest time go. The time of
the last reading is the time of modification of a file, which reading sets: file systems do not
keep times of access reliably.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
import time
import warnings
from pathlib import Path

from covector.core import ladder

_MAGIC = b"covector"
_CHECKSUM = 16
_SUFFIX, _UNFINISHED = ".code", ".new"
_FLAGS = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_HOUR = 3600.0

KEPT = 0.8
"""The part of the limit that entries may fill after some were removed."""
_LOOK_AGAIN = 64
"""Entries written after which the directory is measured again, for what other processes wrote."""


def default_directory() -> str:
    """Where entries are kept unless the setting `cache_dir` says otherwise.

    Returns:
        `$XDG_CACHE_HOME/covector`, or `~/.cache/covector`; empty for a user without a home.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "covector") if os.path.isabs(base) else ""


class Directory:
    """A directory of entries.

    Args:
        path: of the directory, which is made if it is missing; the last part of it with access
            for this user only.
        limit: bytes that the entries may take.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = Path(path)
        self.limit = limit
        self._numbers = itertools.count()
        self._written = 0
        self._total: int | None = None
        self._usable = self._prepare()

    @property
    def usable(self) -> bool:
        """Whether the directory is there and belongs to this user alone."""
        return self._usable

    def _prepare(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            found = self.path.lstat()
        except OSError as error:  # no home, or a read-only one
            if ladder.shows(ladder.TIMES):
                ladder.say(f"compiled programs are not kept on disk: {error}")
            return False
        problem = _problem(found)
        if problem:
            warnings.warn(
                f"compiled programs are not kept on disk: {self.path} {problem}; correct that, or "
                "set COVECTOR_CACHE_DIR to another directory",
                RuntimeWarning,
                stacklevel=2,
            )
        return not problem

    def _file(self, key: str) -> Path:
        return self.path / (key + _SUFFIX)

    def read(self, key: str) -> bytes | None:
        """Looks up an entry.

        Args:
            key: hexadecimal digits.

        Returns:
            What was written under the key, or `None`.
        """
        if not self._usable:
            return None
        file = self._file(key)
        try:
            descriptor = os.open(file, os.O_RDONLY | _FLAGS)
        except OSError:
            return None
        with open(descriptor, "rb") as opened:
            if _problem(os.fstat(descriptor), stat.S_ISREG):
                return None
            try:
                data = opened.read()
            except OSError:
                return None
            payload = _checked(data)
            with contextlib.suppress(OSError):  # it may be a file of a read-only directory
                if payload is None:
                    file.unlink()
                else:
                    os.utime(descriptor)
        return payload

    def remove(self, key: str) -> None:
        """Removes an entry that turned out to be of no use.

        Args:
            key: of the entry.
        """
        with contextlib.suppress(OSError):
            self._file(key).unlink()

    def write(self, key: str, payload: bytes) -> bool:
        """Adds or replaces an entry, and makes room for it.

        Args:
            key: hexadecimal digits.
            payload: what to keep.

        Returns:
            Whether it was written: not where the directory cannot be used, the disk is full, or
            one entry would take a quarter of the limit.
        """
        size = len(payload) + _CHECKSUM + len(_MAGIC)
        if not self._usable or size > self.limit // 4:
            return False
        unfinished = self.path / f"{key}.{os.getpid()}.{next(self._numbers)}{_UNFINISHED}"
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            with open(descriptor, "wb") as opened:
                opened.write(_MAGIC + _checksum(payload))
                opened.write(payload)
            unfinished.replace(self._file(key))
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            return False
        self._make_room(size)
        return True

    def _make_room(self, size: int) -> None:
        self._written += 1
        if self._total is None or self._written % _LOOK_AGAIN == 0:
            self._total = sum([s for _, s, _ in self.entries()])
        else:
            self._total += size
        if self._total > self.limit:
            self._evict()

    def _evict(self) -> None:
        entries = sorted(self.entries())
        total = sum([size for _, size, _ in entries])
        for _, size, file in entries:
            if total <= KEPT * self.limit:
                break
            with contextlib.suppress(OSError):
                file.unlink()
                total -= size
        self._total = total

    def entries(self) -> list[tuple[float, int, Path]]:
        """What is there; on the way, files that a process died writing are removed.

        Returns:
            Time of the last reading, bytes and file of each entry.
        """
        found: list[tuple[float, int, Path]] = []
        oldest = time.time() - _HOUR
        with contextlib.suppress(OSError), os.scandir(self.path) as listing:
            for item in listing:
                with contextlib.suppress(OSError):
                    status = item.stat(follow_symlinks=False)
                    if item.name.endswith(_SUFFIX):
                        found.append((status.st_mtime, status.st_size, Path(item.path)))
                    elif item.name.endswith(_UNFINISHED) and status.st_mtime < oldest:
                        os.unlink(item.path)
        return found


def _problem(found: os.stat_result, is_kind: object = stat.S_ISDIR) -> str:
    """Why a directory or file is not to be trusted; empty if it is."""
    if is_kind is stat.S_ISDIR and not stat.S_ISDIR(found.st_mode):
        return "is not a directory"
    if is_kind is stat.S_ISREG and not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if found.st_uid != os.geteuid():
        return "belongs to another user"
    if found.st_mode & 0o077:
        return f"is open to other users (mode {stat.S_IMODE(found.st_mode):o}, not 700)"
    return ""


def _checksum(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECKSUM).digest()


def _checked(data: bytes) -> bytes | None:
    """The payload of a whole entry."""
    start = len(_MAGIC) + _CHECKSUM
    payload = data[start:]
    whole = data[: len(_MAGIC)] == _MAGIC and data[len(_MAGIC) : start] == _checksum(payload)
    return payload if whole else None
