"""What is measured, a module for each family.

What peers share JAX's programming model for is written once, as a function of the peer's namespace
(`benchmarks.peers`); versions for other peers stand beside it.
"""

from __future__ import annotations

from benchmarks.workloads import (
    adaptive,
    arrays,
    compiles,
    dispatch,
    ensembles,
    kalman,
    loops,
    maml,
    maps,
    montecarlo,
    nbody,
    networks,
    scans,
    stencils,
)
from benchmarks.workloads.case import Case, Promise, Workload, peer_of

FAMILIES = (
    maps,
    ensembles,
    adaptive,
    loops,
    scans,
    montecarlo,
    kalman,
    maml,
    nbody,
    networks,
    stencils,
    arrays,
    dispatch,
    compiles,
)
WORKLOADS: tuple[Workload, ...] = tuple(w for family in FAMILIES for w in family.WORKLOADS)

__all__ = ["WORKLOADS", "Case", "Promise", "Workload", "peer_of"]
