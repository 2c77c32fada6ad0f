"""The peers' processes, as the harness sees them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

ENVIRONMENTS = {"jax": "JAX", "diffrax": "JAX", "torch": "TORCH", "numba": "NUMBA"}
"""Whose interpreter a peer runs in: COVECTOR_BENCH_JAX_PYTHON and so on; else in this one."""

CACHES = ("COVECTOR_CACHE_DIR", "COVECTOR_CACHE_SIZE", "JAX_COMPILATION_CACHE_DIR")
"""Variables that say what is kept on disk; the harness says it itself."""

LONGEST = 600.0
"""Seconds after which an answer is no longer waited for, by default."""


class PeerError(RuntimeError):
    """A peer cannot do what it was asked; the text says why."""


class PeerTimeout(PeerError):
    """A peer took longer than it may.

    Attributes:
        seconds: what it may take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"more than {seconds:g} s, and was ended")
        self.seconds = seconds


def interpreter(peer: str) -> str:
    """The interpreter that a peer runs in."""
    name = ENVIRONMENTS.get(peer)
    return os.environ.get(f"COVECTOR_BENCH_{name}_PYTHON", sys.executable)


class Peer:
    """A worker process, started again after it has died.

    Args:
        name: key of `benchmarks.peers.PEERS`.
        log: where to write what the worker prints, a file.
        environment: variables beyond those of this process.
        caches: whether what was compiled is kept on disk, as by default; if not, no cache knows
            what is compiled here.
        longest: seconds that an answer may take; then the process is ended, with those that it has
            started.

    Raises:
        PeerError: the interpreter is missing, or lacks the library.
    """

    def __init__(
        self,
        name: str,
        log: Path | None = None,
        environment: dict[str, str] | None = None,
        *,
        caches: bool = False,
        longest: float = LONGEST,
    ) -> None:
        self.name = name
        self._longest = longest
        self._log = log
        self._caches = tempfile.TemporaryDirectory(prefix="covector-bench-")
        kept = {k: v for k, v in os.environ.items() if k not in CACHES}
        self._environment = {**kept, "XDG_CACHE_HOME": self._caches.name, **(environment or {})}
        if not caches:
            self._environment["COVECTOR_CACHE_SIZE"] = "0"
        self._process: subprocess.Popen[str] | None = None
        self.version, self.threads = "", ""
        try:
            self._start()
        except PeerError:
            self.close()
            raise

    def _start(self) -> None:
        command = [interpreter(self.name), "-m", "benchmarks.worker", self.name]
        printed = open(self._log, "a") if self._log else None  # noqa: SIM115  # the worker's
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=printed or subprocess.DEVNULL,
                text=True,
                cwd=ROOT,
                env=self._environment,
                start_new_session=True,  # a process group, to be ended as a whole
            )
        except OSError as error:
            raise PeerError(f"{command[0]}: {error.strerror}") from None
        finally:
            if printed:
                printed.close()
        hello = self._reply()
        self.version, self.threads = hello["version"], str(hello["threads"])

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Sends a request and waits for the answer.

        Args:
            do: a method of `benchmarks.worker.Worker`.
            **request: its arguments.

        Returns:
            The answer.

        Raises:
            PeerError: the peer failed or died.
            PeerTimeout: it took too long.
        """
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._end()
            raise PeerError("the process has died") from None
        return self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._longest)[0]:
            self._end()
            raise PeerTimeout(self._longest)
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._end()
            raise PeerError(f"the process has died with {code}")
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()  # waits, and closes the pipes
            self._process = None

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._caches.cleanup()
