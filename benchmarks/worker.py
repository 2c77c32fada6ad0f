"""A peer's process: builds workloads and times them on request, one JSON object a line.

`python -m benchmarks.worker PEER`. Requests are what `benchmarks.client.Peer.ask` sends; an answer
with `error` says why there is no other. The process ends with the one that has started it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS, Case


def _timed(case: Case, calls: int) -> tuple[float, float]:
    """Seconds that a number of calls take, and seconds of processors, of all threads."""
    if case.before is None:
        cpu, start = time.process_time(), time.perf_counter()
        for _ in range(calls):
            case.run()
        return time.perf_counter() - start, time.process_time() - cpu
    seconds, processors = 0.0, 0.0
    for _ in range(calls):
        case.before()
        cpu, start = time.process_time(), time.perf_counter()
        case.run()
        seconds += time.perf_counter() - start
        processors += time.process_time() - cpu
    return seconds, processors


def _calls_for(case: Case, seconds: float) -> int:
    """How many calls take about that long."""
    count = 1
    while True:
        spent = _timed(case, count)[0]
        if spent > seconds / 4 or count >= 1 << 20:
            return max(1, int(count * seconds / max(spent, 1e-9)))
        count *= 4


def _memory(field: str) -> int:
    """A figure of this process in bytes: VmRSS is what it holds, VmHWM the most it has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


class Worker:
    """Answers requests; one method for each.

    Args:
        api: the peer's namespace.
    """

    def __init__(self, api: Any) -> None:
        self.api = api
        self.workloads = {w.name: w for w in WORKLOADS}
        self.cases: dict[str, tuple[Case, int]] = {}

    def _build(self, workload: str, version: str, sizes: dict[str, int]) -> Case:
        versions = self.workloads[workload].versions
        # A name that no version has is Covector in another environment.
        return versions.get(version, versions["covector"])(self.api, **sizes)

    def build(self, workload: str, version: str, sizes: dict[str, int]) -> dict[str, Any]:
        """Builds a version and calls it."""
        case = self._build(workload, version, sizes)
        start = time.perf_counter()
        case.run()
        self.cases[version] = case, 1
        return {"first": time.perf_counter() - start}

    def settle(self, version: str, seconds: float, results: str) -> dict[str, Any]:
        """Writes the results to the file `results`; says how many calls a turn has."""
        case, _ = self.cases[version]
        if case.result is not None:
            np.savez(results, *case.result())
        self.cases[version] = case, _calls_for(case, seconds)
        return {"calls": self.cases[version][1]}

    def time(self, version: str) -> dict[str, Any]:
        """Seconds that a call takes, and of processors."""
        case, calls = self.cases[version]
        seconds, processors = _timed(case, calls)
        return {"seconds": seconds / calls, "cpu": processors / calls}

    def drop(self) -> dict[str, Any]:
        """Forgets what was built."""
        self.cases.clear()
        gc.collect()
        return {}

    def peak(self, workload: str, version: str, sizes: dict[str, int]) -> dict[str, Any]:
        """Bytes that a first call holds at most, beyond what it found when it was compiled."""
        case = self._build(workload, version, sizes)
        assert case.compiled is not None
        run = case.compiled()
        gc.collect()
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
        run()
        return {"bytes": _memory("VmHWM") - before}

    def first_results(self, names: list[str]) -> dict[str, Any]:
        """Seconds to the first results of several workloads, toy-sized: compilation, mostly."""
        seconds: dict[str, float] = {}
        for name in names:
            workload = self.workloads[name]
            case = workload.versions["covector"](self.api, **workload.tiny)
            start = time.perf_counter()
            case.run()
            seconds[name] = time.perf_counter() - start
        return {"seconds": seconds}

    def compilations(self, sizes: list[int]) -> dict[str, Any]:
        """How often LLVM compiles for one function and several batch sizes (Covector alone)."""
        from covector.backends.native import engine

        compile_function, count = engine.compile_function, 0

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            return compile_function(*args, **options)

        engine.compile_function = counting
        ensemble = self.api.jit(self.api.vmap(_decay(self.api)))
        try:
            for size in sizes:
                ensemble(self.api.put(np.linspace(0.0, 1.0, size, dtype="float32")))
        finally:
            engine.compile_function = compile_function
        return {"count": count}


def _decay(api: Any) -> Callable[[Any], Any]:
    def one(x: Any) -> Any:
        return api.lax.scan(lambda y, _: (y - 0.01 * api.np.sin(y), None), x, None, length=100)[0]

    return one


_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Asks the kernel to end this process with the thread that has started it, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _requests() -> Iterator[str]:
    """Lines of standard input. Its end ends this process, whatever it is doing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main() -> None:
    """Serves requests until standard input ends."""
    die_with_parent()
    requests = _requests()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what workloads and their libraries print is not a reply
    try:
        worker = Worker(PEERS[sys.argv[1]]())
    except ImportError as error:
        print(json.dumps({"error": str(error)}), file=replies, flush=True)
        return
    hello = {"version": worker.api.version, "threads": worker.api.threads}
    print(json.dumps(hello), file=replies, flush=True)
    for line in requests:
        request = json.loads(line)
        try:
            reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # the row reports it, the run goes on
            traceback.print_exc()
            text = str(error).strip() or "no message"
            reply = {"error": f"{type(error).__name__}: {text.splitlines()[0]}"}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
