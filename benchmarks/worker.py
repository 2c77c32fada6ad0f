"""A peer's process: builds workloads and times them on request, one JSON object a line."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS, Case


def _encode(array: Any) -> str:
    stream = io.BytesIO()
    np.save(stream, np.asarray(array))
    return base64.b64encode(stream.getvalue()).decode()


def _calls_for(case: Case, seconds: float) -> int:
    """How many calls take about that long."""
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            case.run()
        spent = time.perf_counter() - start
        if spent > seconds / 4 or count >= 1 << 20:
            return max(1, int(count * seconds / max(spent, 1e-9)))
        count *= 4


def _time(case: Case, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        case.run()
    return (time.perf_counter() - start) / calls


def main() -> None:
    """Serves requests until standard input ends."""
    peer = sys.argv[1]
    api = PEERS[peer]()
    workloads = {w.name: w for w in WORKLOADS}
    case: Case | None = None
    calls = 1
    replies = sys.stdout
    sys.stdout = sys.stderr  # what workloads print is not a reply
    print(json.dumps({"version": api.version}), file=replies, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "build":
            case = workloads[request["workload"]].build(api)
            start = time.perf_counter()
            case.run()
            reply: dict[str, Any] = {"first": time.perf_counter() - start}
            reply["result"] = None if case.result is None else _encode(case.result())
            calls = _calls_for(case, request["seconds"])
        else:
            assert case is not None
            reply = {"seconds": _time(case, calls)}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
