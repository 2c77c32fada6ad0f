"""Structures of arguments and results as bytes; users register names for their classes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import optree

from covector.core import pytree, treenodes
from covector.core.errors import DeserializationError, ExportError, compose
from covector.export.wire import Reader, Writer

T = TypeVar("T", bound=type)

LEAF, NONE, TUPLE, LIST, DICT, ORDERED, NAMED, REGISTERED = range(8)
_TEXT, _INTEGER = range(2)
MOST_LEAVES, LONGEST_KEY, DEEPEST = 1 << 16, 1 << 12, 64
LARGEST_KEY = (1 << 62) - 1


class _Registration(NamedTuple):
    name: str
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]


_named: dict[type, str] = {}
_registered: dict[type, _Registration] = {}
_classes: dict[str, type] = {}


def _claim(name: str, nodetype: type) -> None:
    if _classes.setdefault(name, nodetype) is not nodetype:
        raise ValueError(f"{name!r} is the serialized name of {_classes[name]!r} already")


def register_namedtuple_serialization(nodetype: T, *, serialized_name: str) -> T:
    """Lets a class of named tuples be part of the arguments and results of exported functions.

    Args:
        nodetype: the class.
        serialized_name: what it is called in files; whoever reads one registers a class of this
            name.

    Returns:
        The class.

    Raises:
        ValueError: if it is no class of named tuples, or the name belongs to another class.

    Example:
        >>> class Pair(NamedTuple):
        ...     a: int
        ...     b: int
        >>> register_namedtuple_serialization(Pair, serialized_name="doc.Pair") is Pair
        True
    """
    if not optree.is_namedtuple_class(nodetype):
        raise ValueError(f"register_namedtuple_serialization takes named tuples, found {nodetype}")
    _claim(serialized_name, nodetype)
    _named[nodetype] = serialized_name
    return nodetype


def register_pytree_node_serialization(
    nodetype: T,
    *,
    serialized_name: str,
    serialize_auxdata: Callable[[Any], bytes],
    deserialize_auxdata: Callable[[bytes], Any],
) -> T:
    """Lets a class of pytree nodes be part of the arguments and results of exported functions.

    Args:
        nodetype: a class that is registered as a pytree node.
        serialized_name: what it is called in files.
        serialize_auxdata: from the auxiliary data of a node to bytes.
        deserialize_auxdata: the inverse; it gets bytes that others may have written.

    Returns:
        The class.

    Raises:
        ValueError: if it is no pytree node, or the name belongs to another class.
    """
    if nodetype not in treenodes.REGISTERED:
        raise ValueError(f"{nodetype.__qualname__} is not registered as a pytree node")
    _claim(serialized_name, nodetype)
    _registered[nodetype] = _Registration(serialized_name, serialize_auxdata, deserialize_auxdata)
    return nodetype


class _Leaf:
    """Stands where a leaf is."""


_LEAF = _Leaf()


def write_tree(tree: pytree.PyTreeDef, out: Writer) -> None:
    """A structure.

    Args:
        tree: of arguments or results.
        out: where to write.

    Raises:
        ExportError: for a node of a class that is not registered.
    """
    _write(pytree.unflatten(tree, [_LEAF] * tree.num_leaves), out)


def _write(node: Any, out: Writer) -> None:
    if node is _LEAF:
        out.number(LEAF)
        return
    kind = cast("type[Any]", type(node))
    children, aux = treenodes.flatten_one_level(node)
    children = list(children)
    if node is None:
        out.number(NONE)
        return
    if kind in (tuple, list):
        out.number(TUPLE if kind is tuple else LIST)
        out.number(len(children))
    elif kind in (dict, OrderedDict):
        out.number(DICT if kind is dict else ORDERED)
        out.number(len(children))
        for key in aux:
            _write_key(key, out)
    elif kind in _named:
        out.number(NAMED)
        out.text(_named[kind])
        out.number(len(children))
    elif kind in _registered:
        found = _registered[kind]
        out.number(REGISTERED)
        out.text(found.name)
        out.blob(bytes(found.serialize(aux)))
        out.number(len(children))
    else:
        raise _unknown(kind)
    for child in children:
        _write(child, out)


def _unknown(kind: type[Any]) -> ExportError:
    function = "namedtuple" if hasattr(kind, "_fields") else "pytree_node"
    return ExportError(
        compose(
            "arguments and results of a serialised function are tuples, lists, dicts and "
            "registered classes",
            found=kind.__qualname__,
            fix=f"register it: covector.export.register_{function}_serialization",
        )
    )


def _write_key(key: Any, out: Writer) -> None:
    if type(key) is str:
        out.number(_TEXT)
        out.text(key)
    elif type(key) is int and abs(key) <= LARGEST_KEY:
        out.number(_INTEGER)
        out.signed(key)
    else:
        raise ExportError(f"the keys of dicts are texts or integers, found {key!r:.60}")


def read_tree(source: Reader) -> tuple[pytree.PyTreeDef, Any]:
    """A structure, and one example of it with numbers for leaves.

    Raises:
        DeserializationError: if there is none.
    """
    leaves: list[int] = []
    example = _read(source, leaves, 0)
    found, tree = pytree.flatten(example)
    if found != leaves:
        raise DeserializationError("a structure whose leaves are in another order")
    return tree, example


def _read(source: Reader, leaves: list[int], depth: int) -> Any:
    if depth > DEEPEST:
        raise DeserializationError(f"a structure of more than {DEEPEST} levels")
    kind = source.number(REGISTERED, "kind of node")
    if kind == LEAF:
        if len(leaves) >= MOST_LEAVES:
            raise DeserializationError(f"more than {MOST_LEAVES} arguments or results")
        leaves.append(len(leaves))
        return leaves[-1]
    if kind == NONE:
        return None
    if kind in (NAMED, REGISTERED):
        return _read_instance(kind, source, leaves, depth)
    count = source.count(MOST_LEAVES, "parts of a node")
    keys = [_read_key(source) for _ in range(count)] if kind in (DICT, ORDERED) else []
    children = [_read(source, leaves, depth + 1) for _ in range(count)]
    if kind == TUPLE:
        return tuple(children)
    if kind == LIST:
        return children
    if len(set(keys)) != count:
        raise DeserializationError("a dict with equal keys")
    pairs = zip(keys, children, strict=True)
    return dict(pairs) if kind == DICT else OrderedDict(pairs)


def _read_key(source: Reader) -> Any:
    if source.number(_INTEGER, "kind of key") == _TEXT:
        return source.text(LONGEST_KEY)
    return source.signed(LARGEST_KEY)


def _read_instance(kind: int, source: Reader, leaves: list[int], depth: int) -> Any:
    name = source.text(LONGEST_KEY)
    nodetype: Any = _classes.get(name)
    if nodetype is None or nodetype not in (_named if kind == NAMED else _registered):
        raise DeserializationError(
            f"it has a node of a class {name!r}, which is not registered here\n"
            "  fix: import the module that registers it with covector.export first"
        )
    data = source.blob(1 << 20, "auxiliary data") if kind == REGISTERED else b""
    count = source.count(MOST_LEAVES, "parts of a node")
    children = [_read(source, leaves, depth + 1) for _ in range(count)]
    if kind == NAMED:
        if count != len(nodetype._fields):
            raise DeserializationError(f"{name} with {count} fields")
        return nodetype(*children)
    aux = _registered[nodetype].deserialize(data)
    return treenodes.REGISTERED[nodetype].unflatten(aux, children)
