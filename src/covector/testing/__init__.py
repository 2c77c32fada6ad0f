"""Tools to test programs, primitives and backends with: yours as well as ours."""

from __future__ import annotations

from covector.testing.check_op import CheckFailed as CheckFailed
from covector.testing.check_op import Report as Report
from covector.testing.check_op import check_op as check_op
from covector.testing.conforming import Case as Case
from covector.testing.conforming import Conformance as Conformance
from covector.testing.conforming import conformance as conformance
