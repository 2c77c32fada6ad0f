"""`unvmap_any`, `unvmap_all`, `unvmap_max`: what decides for a whole batch how its lanes go on.

A function of one lane asks such a question where the answer only changes how a result is computed,
not what it is: whether a step can be skipped, say. `vmap` makes one question of those of all lanes.
Since the result of a lane is its own whatever the others ask, lanes may also be asked apart: in
compiled code each chunk of lanes has its own answer. Equinox and Diffrax ask like this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.core.avals import Aval
from covector.core.primitive import Primitive, unsupported
from covector.ops import reduce
from covector.ops.common import LOCAL, Local, check_dtypes


def _unvmap(name: str, whole: Primitive, kinds: str) -> Primitive:
    """A primitive that reduces all axes, those of batches included.

    Args:
        name: of the primitive.
        whole: the reduction.
        kinds: which dtypes it takes (see `common.KINDS`).
    """

    def axes(x: Any) -> tuple[int, ...]:
        return tuple(range(len(x.shape)))

    def shape_rule(x: Aval) -> Aval:
        check_dtypes(name, (x,), kinds)
        return Aval((), x.dtype, x.weak_type)

    def evaluate_rule(x: Any) -> Any:
        return whole.evaluate(x, axes=axes(x))

    def jvp_rule(ctx: Any, primals: Any, tangents: Any) -> Any:
        return reduce.no_derivative(primitive, primals)

    def batch_rule(ctx: Any, args: Any, dims: Any) -> tuple[Any, None]:
        return primitive(args[0]), None

    def lower_rule(b: Any, x: Any) -> Any:
        return whole.lower(b, x, axes=axes(x))

    def lanes_rule(dims: Sequence[int | None], x: Aval) -> Local | None:
        return None if dims[0] is None else LOCAL

    primitive = Primitive(
        name,
        shape=shape_rule,
        evaluate=evaluate_rule,
        jvp=jvp_rule,
        transpose=unsupported("it is not linear"),
        batch=batch_rule,
        lower=lower_rule,
        lanes=lanes_rule,
        tags=frozenset({"reduction"}),
    )
    return primitive


unvmap_any = _unvmap("unvmap_any", reduce.reduce_or, "b")
unvmap_all = _unvmap("unvmap_all", reduce.reduce_and, "b")
unvmap_max = _unvmap("unvmap_max", reduce.reduce_max, "iu")
