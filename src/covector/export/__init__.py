"""Functions ahead of time: serialised, and compiled into libraries that run without Python.

`export(jit(f))(shapes)` gives an `Exported`: it can be called, differentiated, written to bytes
(`serialize`, `deserialize`), and compiled into a library (`library`). The names are those of
`jax.export`.
"""

from __future__ import annotations

from covector.core.errors import DeserializationError as DeserializationError
from covector.core.errors import ExportError as ExportError
from covector.export.exported import Exported as Exported
from covector.export.exported import deserialize as deserialize
from covector.export.exported import export as export
from covector.export.exported import library as library
from covector.export.library import Library as Library
from covector.export.symbolic import is_symbolic_dim as is_symbolic_dim
from covector.export.symbolic import symbolic_args_specs as symbolic_args_specs
from covector.export.symbolic import symbolic_shape as symbolic_shape
from covector.export.trees import (
    register_namedtuple_serialization as register_namedtuple_serialization,
)
from covector.export.trees import (
    register_pytree_node_serialization as register_pytree_node_serialization,
)
