"""The node types of pytrees: the built-in containers, registered classes, and paths to leaves.

Flattening itself is optree's (see `pytree.py`); this module knows nodes one level at a time, which
is what key paths and error messages need, and tells optree about registered classes.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import optree

NAMESPACE = "covector"
"""What optree keeps our registrations under: classes that others register stay leaves."""

C = TypeVar("C", bound=type)

# ---- paths


class DictKey(NamedTuple):
    """A step into a dict."""

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


class SequenceKey(NamedTuple):
    """A step into a tuple or list."""

    idx: int

    def __str__(self) -> str:
        return f"[{self.idx}]"


class GetAttrKey(NamedTuple):
    """A step into a field of a named tuple or dataclass."""

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


class FlattenedIndexKey(NamedTuple):
    """A step into a registered class that names its children by position only."""

    key: int

    def __str__(self) -> str:
        return f"[<flat index {self.key}>]"


KeyPath = tuple[Any, ...]


def keystr(keys: KeyPath, *, simple: bool = False, separator: str = "") -> str:
    """A path as Python would write it.

    Args:
        keys: the steps.
        simple: leave out brackets, quotes and dots.
        separator: what to put between steps.

    Example:
        >>> keystr((DictKey("a"), SequenceKey(0)))
        "['a'][0]"
        >>> keystr((DictKey("a"), SequenceKey(0)), simple=True, separator="/")
        'a/0'
    """
    # The tuple's only field is what the step is called by.
    return separator.join([str(key[0]) if simple and _is_step(key) else str(key) for key in keys])


def _is_step(key: Any) -> bool:
    return isinstance(key, (DictKey, SequenceKey, GetAttrKey, FlattenedIndexKey))


# ---- node types


class NodeType:
    """How the instances of a class come apart and together again."""

    __slots__ = ("flatten", "flatten_with_keys", "unflatten")

    def __init__(
        self,
        flatten: Callable[[Any], tuple[Iterable[Any], Any]],
        unflatten: Callable[[Any, Iterable[Any]], Any],
        flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
    ) -> None:
        self.flatten = flatten
        self.unflatten = unflatten
        self.flatten_with_keys = flatten_with_keys


def sorted_keys(keys: Iterable[Any]) -> list[Any]:
    """Dict keys in the order of their leaves.

    Raises:
        ValueError: the keys cannot be sorted.
    """
    try:
        return sorted(keys)
    except TypeError as error:
        shown = ", ".join(f"{key!r:.40}" for key in keys)
        raise ValueError(
            "the keys of a dict in a pytree must be sortable, since their order is the order of "
            f"its leaves; found keys {shown}: {error}"
        ) from None


def _flatten_dict(node: dict[Any, Any]) -> tuple[list[Any], Any]:
    keys = sorted_keys(node)
    return [node[key] for key in keys], tuple(keys)


def _flatten_defaultdict(node: defaultdict[Any, Any]) -> tuple[list[Any], Any]:
    keys = sorted_keys(node)
    return [node[key] for key in keys], (node.default_factory, tuple(keys))


def _flatten_sequence(node: Sequence[Any]) -> tuple[Sequence[Any], Any]:
    return node, None


def _flatten_named_tuple(node: Any) -> tuple[Any, Any]:
    return node, node.__class__


BUILTIN: dict[type, NodeType] = {
    type(None): NodeType(lambda node: ((), None), lambda aux, children: None),
    tuple: NodeType(_flatten_sequence, lambda aux, children: tuple(children)),
    list: NodeType(_flatten_sequence, lambda aux, children: list(children)),
    dict: NodeType(_flatten_dict, lambda keys, children: dict(zip(keys, children, strict=True))),
    OrderedDict: NodeType(
        lambda node: (list(node.values()), tuple(node)),
        lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
    ),
    defaultdict: NodeType(
        _flatten_defaultdict,
        lambda aux, children: defaultdict(aux[0], zip(aux[1], children, strict=True)),
    ),
}
REGISTERED: dict[type, NodeType] = {}
_NAMED_TUPLE = NodeType(_flatten_named_tuple, lambda kind, children: kind(*children))


def node_type(kind: type[Any]) -> NodeType | None:
    """How instances of a class are nodes; None if they are leaves."""
    found = REGISTERED.get(kind) or BUILTIN.get(kind)
    if found is None and optree.is_namedtuple_class(kind):
        return _NAMED_TUPLE
    return found


def is_tree_node(typ: type) -> bool:
    """Whether instances of a class are nodes of pytrees rather than leaves."""
    return node_type(typ) is not None


def flatten_one_level(tree: Any) -> tuple[Iterable[Any], Any]:
    """The children of a node, and its auxiliary data.

    Raises:
        ValueError: the argument is a leaf.

    Example:
        >>> flatten_one_level({"b": 2, "a": (1, 3)})
        ([(1, 3), 2], ('a', 'b'))
    """
    found = node_type(tree.__class__)
    if found is None:
        raise ValueError(f"a leaf has no children: {tree!r:.80} of type {type(tree).__name__}")
    return found.flatten(tree)


def flatten_one_level_with_keys(tree: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """The children of a node with the step that leads to each, and its auxiliary data.

    Raises:
        ValueError: the argument is a leaf.

    Example:
        >>> flatten_one_level_with_keys([7])
        ([(SequenceKey(idx=0), 7)], None)
    """
    kind = cast("type[Any]", type(tree))
    found = node_type(kind)
    if found is not None and found.flatten_with_keys is not None:
        pairs, aux = found.flatten_with_keys(tree)
        return list(pairs), aux
    children, aux = flatten_one_level(tree)
    steps = _steps(kind, aux)
    if steps is None:
        step: Any = SequenceKey if kind in (tuple, list) else FlattenedIndexKey
        return [(step(i), child) for i, child in enumerate(children)], aux
    return list(zip(steps, children, strict=True)), aux


def _steps(kind: type[Any], aux: Any) -> list[Any] | None:
    """The steps into a node whose auxiliary data names its children."""
    if kind in REGISTERED:
        return None
    if kind in (dict, OrderedDict):
        return [DictKey(key) for key in aux]
    if kind is defaultdict:
        return [DictKey(key) for key in aux[1]]
    if kind not in BUILTIN:
        return [GetAttrKey(name) for name in cast("Any", kind)._fields]
    return None


# ---- registration

_optree: Any = optree
_on_registration: list[Callable[[], None]] = []


def on_registration(action: Callable[[], None]) -> None:
    """Call a function whenever a class becomes a node type, so that memos can be renewed."""
    _on_registration.append(action)


def register_pytree_node(
    nodetype: type[Any],
    flatten_func: Callable[[Any], tuple[Iterable[Any], Any]],
    unflatten_func: Callable[[Any, Any], Any],
    flatten_with_keys_func: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]] | None = None,
) -> None:
    """Make the instances of a class nodes of pytrees.

    Args:
        nodetype: the class; its subclasses stay leaves.
        flatten_func: from an instance to its children and auxiliary data. The latter is part of
            the tree's structure: it is compared, and hashed where structures are.
        unflatten_func: from auxiliary data and children to an instance.
        flatten_with_keys_func: like `flatten_func`, but each child comes with the step that leads
            to it, such as `GetAttrKey("x")`.

    Raises:
        ValueError: the class is a node type already.

    Example:
        >>> class Point:
        ...     def __init__(self, x, y):
        ...         self.x, self.y = x, y
        >>> register_pytree_node(Point, lambda p: ((p.x, p.y), None), lambda _, xy: Point(*xy))
    """
    if not isinstance(nodetype, type):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a pytree node type is a class, found {nodetype!r}")
    if nodetype in REGISTERED or nodetype in BUILTIN:
        raise ValueError(f"{nodetype.__qualname__} is registered as a pytree node already")
    with warnings.catch_warnings():
        # optree warns where a named tuple's own treatment is replaced; that is what is asked for.
        warnings.simplefilter("ignore", UserWarning)
        _optree.register_pytree_node(nodetype, flatten_func, unflatten_func, namespace=NAMESPACE)
    REGISTERED[nodetype] = NodeType(flatten_func, unflatten_func, flatten_with_keys_func)
    for action in _on_registration:
        action()


def register_pytree_with_keys(
    nodetype: type[Any],
    flatten_with_keys: Callable[[Any], tuple[Iterable[tuple[Any, Any]], Any]],
    unflatten_func: Callable[[Any, Any], Any],
    flatten_func: Callable[[Any], tuple[Iterable[Any], Any]] | None = None,
) -> None:
    """Make the instances of a class nodes of pytrees, with names for the steps to its children.

    Args:
        nodetype: the class.
        flatten_with_keys: from an instance to pairs of step and child, and auxiliary data.
        unflatten_func: from auxiliary data and children to an instance.
        flatten_func: the same as `flatten_with_keys` without steps, where that is faster.

    Raises:
        ValueError: the class is a node type already.
    """

    def flatten_without_keys(node: Any) -> tuple[Iterable[Any], Any]:
        pairs, aux = flatten_with_keys(node)
        return [child for _, child in pairs], aux

    register_pytree_node(
        nodetype, flatten_func or flatten_without_keys, unflatten_func, flatten_with_keys
    )


def register_pytree_node_class(cls: C) -> C:
    """Class decorator: register a class with methods `tree_flatten` and `tree_unflatten`.

    Args:
        cls: `tree_flatten(self)` gives children and auxiliary data, the class method
            `tree_unflatten(cls, aux, children)` an instance.

    Returns:
        The class.

    Raises:
        ValueError: the class is a node type already.
    """
    kind = cast("Any", cls)
    register_pytree_node(cls, kind.tree_flatten, kind.tree_unflatten)
    return cls


def register_pytree_with_keys_class(cls: C) -> C:
    """Class decorator: register a class with `tree_flatten_with_keys` and `tree_unflatten`.

    Args:
        cls: as for `register_pytree_node_class`; a method `tree_flatten` is used where present.

    Returns:
        The class.

    Raises:
        ValueError: the class is a node type already.
    """
    kind = cast("Any", cls)
    register_pytree_with_keys(
        cls, kind.tree_flatten_with_keys, kind.tree_unflatten, getattr(cls, "tree_flatten", None)
    )
    return cls


def register_dataclass(
    nodetype: C,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
) -> C:
    """Register a dataclass, or a class like one; also usable as a class decorator.

    Args:
        nodetype: the class; calling it with all fields by name makes an instance.
        data_fields: the fields that hold children. Fields of a dataclass that are not marked with
            `field(metadata={"static": True})` when this and `meta_fields` are None.
        meta_fields: the fields that are part of the structure, compared and hashed.
        drop_fields: fields to leave out; they get their defaults again.

    Returns:
        The class.

    Raises:
        ValueError: the fields named are not the fields of the dataclass, or some are named twice.
        TypeError: no fields are named and the class is no dataclass.

    Example:
        >>> @register_dataclass
        ... @dataclasses.dataclass
        ... class State:
        ...     x: float
        ...     name: str = dataclasses.field(metadata={"static": True})
    """
    data, meta = _dataclass_fields(nodetype, data_fields, meta_fields, frozenset(drop_fields))
    keys = [GetAttrKey(name) for name in data]

    def flatten(node: Any) -> tuple[list[Any], Any]:
        return [getattr(node, name) for name in data], tuple([getattr(node, n) for n in meta])

    def flatten_with_keys(node: Any) -> tuple[list[tuple[Any, Any]], Any]:
        children, aux = flatten(node)
        return list(zip(keys, children, strict=True)), aux

    def unflatten(aux: Any, children: Iterable[Any]) -> Any:
        fields = dict(zip(data, children, strict=True))
        fields.update(zip(meta, aux, strict=True))
        return nodetype(**fields)

    register_pytree_node(nodetype, flatten, unflatten, flatten_with_keys)
    return nodetype


def _dataclass_fields(
    nodetype: type[Any],
    data_fields: Sequence[str] | None,
    meta_fields: Sequence[str] | None,
    dropped: frozenset[str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if (data_fields is None) != (meta_fields is None):
        raise TypeError("register_dataclass takes both data_fields and meta_fields, or neither")
    fields = dataclasses.fields(nodetype) if dataclasses.is_dataclass(nodetype) else None
    if data_fields is None or meta_fields is None:
        if fields is None:
            raise TypeError(
                f"{nodetype.__qualname__} is no dataclass: name its data_fields and meta_fields"
            )
        kept = [field for field in fields if field.init and field.name not in dropped]
        data = tuple([f.name for f in kept if not f.metadata.get("static", False)])
        return data, tuple([f.name for f in kept if f.metadata.get("static", False)])
    data, meta = tuple(data_fields), tuple(meta_fields)
    named = [*data, *meta]
    if len(set(named)) != len(named):
        raise ValueError(f"data_fields and meta_fields name a field twice: {', '.join(named)}")
    if fields is not None:
        expected = {field.name for field in fields if field.init} - dropped
        if expected != set(named):
            wrong = ", ".join(sorted(expected ^ set(named)))
            raise ValueError(
                f"data_fields and meta_fields should name the fields of {nodetype.__qualname__} "
                f"that __init__ takes, once each; missing or unknown: {wrong}"
            )
    return data, meta


def static(**kwargs: Any) -> Any:
    """A dataclass field that is part of the tree's structure, for `register_dataclass`.

    Args:
        kwargs: as for `dataclasses.field`.

    Returns:
        The field.
    """
    metadata = {**kwargs.pop("metadata", {}), "static": True}
    return dataclasses.field(metadata=metadata, **kwargs)


def register_static(cls: C) -> C:
    """Register a class whose instances are nodes without children: part of the structure.

    Args:
        cls: a class with `__eq__` and `__hash__`.

    Returns:
        The class.

    Raises:
        ValueError: the class is a node type already.
    """
    register_pytree_node(
        cls, lambda node: ((), node), lambda node, _: node, lambda node: ((), node)
    )
    return cls


class _Opaque:
    """A plain `functools.partial` as a function: its arguments are not leaves."""

    def __init__(self, fun: functools.partial[Any]) -> None:
        self.fun = fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fun(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and self.fun is other.fun

    def __hash__(self) -> int:
        return hash(self.fun)

    def __repr__(self) -> str:
        return repr(self.fun)


class Partial(functools.partial[Any]):
    """A `functools.partial` that is a pytree: its arguments are children, its function is not.

    Functions of this kind can be passed to transformed functions and returned from them.

    Args:
        func: the function.
        args: positional arguments to bind.
        kw: arguments to bind by name.

    Example:
        >>> Partial(divmod, 7)(2)
        (3, 1)
    """

    def __new__(cls, func: Callable[..., Any], /, *args: Any, **kw: Any) -> Partial:
        if isinstance(func, functools.partial) and not isinstance(func, Partial):
            func = _Opaque(cast("Any", func))
        return super().__new__(cls, func, *args, **kw)


register_pytree_node(
    Partial,
    lambda partial: ((partial.args, partial.keywords), partial.func),
    lambda func, children: Partial(func, *children[0], **children[1]),
    lambda partial: (
        ((GetAttrKey("args"), partial.args), (GetAttrKey("keywords"), partial.keywords)),
        partial.func,
    ),
)
