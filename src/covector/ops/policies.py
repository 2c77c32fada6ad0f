"""Which intermediate values `checkpoint` may save: policies, as parameters of the primitive.

A policy is asked once for every equation, `policy(primitive, *avals, **params) -> bool`; any
function of the user's that answers like this is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from covector.core.params import register_param_type
from covector.core.primitive import Primitive

Policy = Callable[..., bool]


@register_param_type
@dataclass(frozen=True)
class Everything:
    """All values may be saved, as without `checkpoint`."""

    def __call__(self, primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return True


@register_param_type
@dataclass(frozen=True)
class Nothing:
    """No value may be saved: all are computed again, as without a policy."""

    def __call__(self, primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return False


@register_param_type
@dataclass(frozen=True)
class Dots:
    """Results of contractions may be saved.

    Attributes:
        only_without_batch: of those alone that have no batch dimensions.
    """

    only_without_batch: bool

    def __call__(self, primitive: Primitive, *avals: Any, **params: Any) -> bool:
        if primitive.name == "dot_general":
            _, batch = params["dimension_numbers"]
            return not (self.only_without_batch and any([len(axes) for axes in batch]))
        return primitive.name == "conv_general_dilated" and not self.only_without_batch


@register_param_type
@dataclass(frozen=True)
class Names:
    """Values named by `checkpoint_name` may be saved, depending on their name.

    Attributes:
        names: the names in question.
        listed: whether it is the listed names that may be saved, or all others.
        unnamed: whether values without a name may be saved.
    """

    names: tuple[str, ...]
    listed: bool
    unnamed: bool

    def __call__(self, primitive: Primitive, *avals: Any, **params: Any) -> bool:
        if primitive.name != "name":
            return self.unnamed
        return (params["name"] in self.names) == self.listed


@register_param_type
@dataclass(frozen=True)
class EitherPolicy:
    """What one of two policies allows to save.

    Attributes:
        first: a policy.
        second: another.
    """

    first: Policy
    second: Policy

    def __call__(self, primitive: Primitive, *avals: Any, **params: Any) -> bool:
        return self.first(primitive, *avals, **params) or self.second(primitive, *avals, **params)
