"""What users extend Covector with: operations of their own beside the built-in ones; backends.

`covector.extend.backends` and `covector.extend.loopir` are what backends are made of.
"""

from __future__ import annotations

from covector.core.avals import Aval as Aval
from covector.core.avals import Linear as Linear
from covector.extend.array_kernel import ArrayKernel as ArrayKernel
from covector.extend.array_kernel import array_kernel as array_kernel
from covector.extend.array_kernel import prange as prange
from covector.extend.foreign import foreign as foreign
from covector.extend.kernel_source import KernelError as KernelError
from covector.extend.operation import Operation as Operation
from covector.extend.operation import decomposition as decomposition
from covector.extend.operation import operation as operation
from covector.extend.operation import program_of as program_of
from covector.extend.scalar_kernel import ScalarKernel as ScalarKernel
from covector.extend.scalar_kernel import scalar_kernel as scalar_kernel
