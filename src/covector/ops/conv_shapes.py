"""What a convolution's parameters say: which axes are what, and how far windows reach."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.params import register_param_type
from covector.core.source import here

Spec = tuple[int, ...]
Pairs = Sequence[tuple[Any, Any]]


@register_param_type
class ConvDimensionNumbers(NamedTuple):
    """Which axes are what in a convolution.

    Attributes:
        lhs_spec: the axes of lhs that are batch, feature, then the spatial ones.
        rhs_spec: the axes of rhs that are output feature, input feature, then the spatial ones.
        out_spec: the axes of the result that are batch, feature, then the spatial ones.
    """

    lhs_spec: Spec
    rhs_spec: Spec
    out_spec: Spec


class Convolution:
    """A convolution of operands of known shapes.

    Operands are read as if lhs had the axes (groups, batch, features, spatial ...), rhs (groups,
    outputs, features, kernel ...) and the result (groups, batch, outputs, places ...). With
    feature groups the group is the outer part of lhs's feature axis, with batch groups that of its
    batch axis; in rhs and the result it is the outer part of the output features either way.

    Attributes:
        numbers: which axes are what.
        strides: how far apart windows begin.
        padding: (low, high) along each spatial axis, negative ones cut off.
        lhs_dilation: distance of lhs's elements before padding.
        rhs_dilation: distance of the elements of a window.
        by_batch: whether groups are groups of the batch.
        groups: number of groups.
        batch: extent of the result's batch axis.
        features: input features of one group.
        outputs: output features of one group.
        spatial: extents of lhs.
        kernel: extents of rhs.
        padded: extents of what the windows are on.
        places: spatial extents of the result.
    """

    __slots__ = (
        "batch",
        "by_batch",
        "features",
        "groups",
        "kernel",
        "lhs_dilation",
        "numbers",
        "outputs",
        "padded",
        "padding",
        "places",
        "rhs_dilation",
        "spatial",
        "strides",
    )

    def __init__(self, lhs: Aval, rhs: Aval, params: dict[str, Any]) -> None:
        numbers: ConvDimensionNumbers = params["dimension_numbers"]
        self.numbers = numbers
        self.strides: Sequence[int] = params["window_strides"]
        self.padding: Pairs = params["padding"]
        self.lhs_dilation: Sequence[int] = params["lhs_dilation"]
        self.rhs_dilation: Sequence[int] = params["rhs_dilation"]
        batch_groups: int = params["batch_group_count"]
        self.by_batch = batch_groups > 1
        self.groups: int = max(batch_groups, params["feature_group_count"])
        batch, _, *spatial = [lhs.shape[axis] for axis in numbers.lhs_spec]
        outputs, features, *kernel = [rhs.shape[axis] for axis in numbers.rhs_spec]
        self.batch: Any = batch // batch_groups if self.by_batch else batch
        self.features: Any = features
        self.outputs: Any = outputs // self.groups if self.groups > 1 else outputs
        self.spatial: list[Any] = spatial
        self.kernel: list[Any] = kernel
        self.padded: list[Any] = [
            dilated(n, gap) + low + high
            for n, gap, (low, high) in zip(spatial, self.lhs_dilation, self.padding, strict=True)
        ]
        self.places: list[Any] = [
            _windows(n, dilated(k, gap), step)
            for n, k, gap, step in zip(
                self.padded, kernel, self.rhs_dilation, self.strides, strict=True
            )
        ]

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape of the result."""
        outputs = self.outputs * self.groups if self.groups > 1 else self.outputs
        extents = [self.batch, outputs, *self.places]
        shape: list[Any] = [0] * len(extents)
        for axis, extent in zip(self.numbers.out_spec, extents, strict=True):
            shape[axis] = extent
        return tuple(shape)

    @property
    def terms(self) -> int:
        """How many products are summed for one element."""
        return self.features * prod(self.kernel)

    @property
    def padding_config(self) -> tuple[tuple[Any, Any, int], ...]:
        """How `pad` makes what the windows are on, from lhs with its axes in their order."""
        config: list[tuple[Any, Any, int]] = [(0, 0, 0)] * len(self.numbers.lhs_spec)
        for axis, (low, high), gap in zip(
            self.numbers.lhs_spec[2:], self.padding, self.lhs_dilation, strict=True
        ):
            config[axis] = (low, high, gap - 1)
        return tuple(config)


def dilated(n: Any, gap: int) -> Any:
    """The extent of `n` elements, neighbours `gap` apart."""
    return n if gap == 1 or (type(n) is int and n == 0) else (n - 1) * gap + 1


def _windows(extent: Any, reach: Any, step: int) -> Any:
    if type(extent) is int and type(reach) is int and extent < reach:
        return 0
    if type(reach) is int and reach == step == 1:
        return extent
    return (extent - reach) // step + 1


# --- checks ---------------------------------------------------------------------------------------


def check_convolution(lhs: Aval, rhs: Aval, params: dict[str, Any]) -> None:
    """Raises unless operands and parameters describe a convolution.

    Args:
        lhs: of the operand.
        rhs: of the kernel.
        params: of the primitive.

    Raises:
        ValueError: saying which rule is broken, and by what.
    """
    for rules in (_broken_ranks, _broken_groups):
        for broken, fix in rules(lhs, rhs, params):
            found = f"lhs {lhs}, rhs {rhs}, {_described(params)}"
            raise ValueError(
                compose(f"conv_general_dilated needs {broken}", found=found, fix=fix, line=here())
            )


def _described(params: dict[str, Any]) -> str:
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    shown = {name: params[name] for name in _SPATIAL if name != "padding"}
    groups = {name: params[name] for name in _GROUPS if params[name] != 1}
    texts = [f"{name} {value}" for name, value in {**shown, **groups}.items()]
    specs = ", ".join(map(str, numbers))
    return ", ".join([*texts, f"padding {tuple(params['padding'])}", f"axes {specs}"])


_SPATIAL = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
_GROUPS = ("feature_group_count", "batch_group_count")

_Broken = list[tuple[str, str]]


def _broken_ranks(lhs: Aval, rhs: Aval, params: dict[str, Any]) -> _Broken:
    if lhs.ndim != rhs.ndim or lhs.ndim < 2:
        fix = "give both a batch or output axis, a feature axis and the same spatial axes"
        return [("operands of equal rank, at least 2", fix)]
    broken: _Broken = []
    for name, spec in zip(ConvDimensionNumbers._fields, params["dimension_numbers"], strict=True):
        if sorted(spec) != list(range(lhs.ndim)):
            broken.append((f"each of the {lhs.ndim} axes once in {name}, not {tuple(spec)}", ""))
    for name in _SPATIAL:
        if len(params[name]) != lhs.ndim - 2:
            wanted = f"{lhs.ndim - 2} entries in {name}, one for each spatial axis"
            broken.append((wanted, f"give {name} as many entries, or reshape the operands"))
        elif name != "padding" and any(n < 1 for n in params[name]):
            broken.append((f"a positive {name}", ""))
    return broken or _broken_padding(lhs, params)


def _broken_padding(lhs: Aval, params: dict[str, Any]) -> _Broken:
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    spatial: list[Any] = [lhs.shape[axis] for axis in numbers.lhs_spec[2:]]
    for n, gap, (low, high) in zip(spatial, params["lhs_dilation"], params["padding"], strict=True):
        if type(n) is int and dilated(n, gap) + low + high < 0:
            return [("negative padding that leaves something of each axis", "pad less")]
    return []


def _broken_groups(lhs: Aval, rhs: Aval, params: dict[str, Any]) -> _Broken:
    numbers: ConvDimensionNumbers = params["dimension_numbers"]
    feature_groups, batch_groups = (params[name] for name in _GROUPS)
    if feature_groups < 1 or batch_groups < 1:
        return [("positive group counts", "")]
    if feature_groups > 1 and batch_groups > 1:
        return [("at most one of feature_group_count and batch_group_count above 1", "")]
    batch, features = (lhs.shape[axis] for axis in numbers.lhs_spec[:2])
    outputs, inputs = (rhs.shape[axis] for axis in numbers.rhs_spec[:2])
    fix = "check dimension_numbers: their default is NCHW for lhs, OIHW for rhs"
    if features != inputs * feature_groups:
        expected = f"{inputs} * {feature_groups}" if feature_groups > 1 else f"{inputs}"
        what = "input features of rhs times feature_group_count"
        return [(f"as many features of lhs as {what}, {features} is not {expected}", fix)]
    broken: _Broken = []
    if _leaves_rest(batch, batch_groups):
        broken.append((f"a batch_group_count that divides lhs's batch of {batch}", fix))
    for name, count in zip(_GROUPS, (feature_groups, batch_groups), strict=True):
        if _leaves_rest(outputs, count):
            broken.append((f"a {name} that divides rhs's {outputs} output features", fix))
    return broken


def _leaves_rest(extent: Any, count: int) -> bool:
    return count > 1 and extent % count != 0
