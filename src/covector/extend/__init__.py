"""What users extend Covector with: operations of their own, beside the built-in ones."""

from __future__ import annotations

from covector.core.avals import Aval as Aval
from covector.core.avals import Linear as Linear
from covector.extend.foreign import foreign as foreign
from covector.extend.operation import Operation as Operation
from covector.extend.operation import decomposition as decomposition
from covector.extend.operation import operation as operation
from covector.extend.operation import program_of as program_of
