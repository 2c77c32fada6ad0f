"""Functions of pytrees under their long names, registration of node types, and paths to leaves."""

from covector.core.pytree import (
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    Partial,
    PyTreeDef,
    SequenceKey,
    flatten_one_level,
    flatten_one_level_with_keys,
    is_tree_node,
    keystr,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
)
from covector.core.pytree import broadcast as tree_broadcast
from covector.core.pytree import flatten as tree_flatten
from covector.core.pytree import flatten_with_path as tree_flatten_with_path
from covector.core.pytree import leaves as tree_leaves
from covector.core.pytree import leaves_with_path as tree_leaves_with_path
from covector.core.pytree import map as tree_map
from covector.core.pytree import map_with_path as tree_map_with_path
from covector.core.pytree import structure as tree_structure
from covector.core.pytree import unflatten as tree_unflatten
from covector.core.treetools import all as tree_all
from covector.core.treetools import (
    all_leaves,
    treedef_children,
    treedef_is_leaf,
    treedef_tuple,
)
from covector.core.treetools import reduce as tree_reduce
from covector.core.treetools import reduce_associative as tree_reduce_associative
from covector.core.treetools import transpose as tree_transpose

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "all_leaves",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "is_tree_node",
    "keystr",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "tree_all",
    "tree_broadcast",
    "tree_flatten",
    "tree_flatten_with_path",
    "tree_leaves",
    "tree_leaves_with_path",
    "tree_map",
    "tree_map_with_path",
    "tree_reduce",
    "tree_reduce_associative",
    "tree_structure",
    "tree_transpose",
    "tree_unflatten",
    "treedef_children",
    "treedef_is_leaf",
    "treedef_tuple",
]
