"""Functions of pytrees, under short names: `tree.map(f, params)`."""

from covector.core.pytree import (
    broadcast,
    flatten,
    flatten_with_path,
    leaves,
    leaves_with_path,
    map,
    map_with_path,
    static,
    structure,
    unflatten,
)
from covector.core.treetools import all, reduce, reduce_associative, transpose

__all__ = [
    "all",
    "broadcast",
    "flatten",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "reduce",
    "reduce_associative",
    "static",
    "structure",
    "transpose",
    "unflatten",
]
