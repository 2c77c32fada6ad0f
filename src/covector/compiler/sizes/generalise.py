"""Generalisation: a traced program with symbols for the sizes that may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from covector.compiler.sizes.rules import Params, Shape, rule_of
from covector.compiler.sizes.unify import Sizes
from covector.core.avals import Aval, same_type
from covector.core.dims import Dim, DimSize, is_symbolic, symbol
from covector.core.program import Atom, Equation, Program, Variable, all_equations, subprograms
from covector.ops.nested import split


class General(NamedTuple):
    """A program for all sizes, and the sizes it was traced with.

    Attributes:
        program: with symbols.
        values: the number of each symbol, in the order of the inputs.
    """

    program: Program
    values: dict[str, int]


def generalise(program: Program, fixed: Collection[int] = ()) -> General | None:
    """The program with symbols for the leading axes of its inputs, as far as they may change.

    Args:
        program: with numbers for all sizes, without calls.
        fixed: positions of inputs that keep their sizes.

    Returns:
        The general program; `None` if all its sizes are its own.

    ```
    { a: f32[16,3] -> b: f32[16,3] = add a a }  =>  { a: f32[n,3] -> b: f32[n,3] = add a a }, n=16
    ```
    """
    if program.effects or any([is_symbolic(a.shape) for a in program.input_avals]):
        return None
    if any(["callback" in e.primitive.tags for e in all_equations(program)]):
        return None
    sizes = Sizes()
    shapes = [
        (sizes.of_input(cast("int", a.shape[0])), *a.shape[1:])
        if a.shape and k not in fixed
        else a.shape
        for k, a in enumerate(program.input_avals)
    ]
    if not sizes.values:
        return None
    general = _Walk(sizes).program(program, shapes)
    return _settled(general, sizes)


class _Walk:
    """Rebuilds programs with symbolic sizes, unifying as it goes."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._control = {"scan": self._scan, "while": self._while, "cond": self._cond}

    def program(self, program: Program, shapes: Sequence[Shape]) -> Program:
        """A program given the shapes of its inputs."""
        names: dict[Variable, Variable] = {}
        inputs = [_named(names, v, s) for v, s in zip(program.inputs, shapes, strict=True)]
        equations: list[Equation] = []
        for equation in program.equations:
            atoms = [_atom(names, a) for a in equation.inputs]
            params, results = self._equation(equation, [self._shape(a) for a in atoms])
            outputs = [_named(names, v, s) for v, s in zip(equation.outputs, results, strict=True)]
            equations.append(equation.replace(inputs=atoms, outputs=outputs, params=params))
        outputs = [_atom(names, a) for a in program.outputs]
        return Program(inputs, equations, outputs, program.name)

    def _shape(self, atom: Atom) -> Shape:
        return tuple([self.sizes.resolve(n) for n in atom.aval.shape])

    def _equation(
        self, equation: Equation, shapes: Sequence[Shape]
    ) -> tuple[Params, Sequence[Shape]]:
        control = self._control.get(equation.primitive.name)
        if control is not None:
            return control(equation, shapes)
        rule = rule_of(equation)
        if rule is not None:
            params = rule(self.sizes, equation, shapes)
            results = self._results(equation, params, shapes)
            if results is not None:
                return params, results
        for shape in shapes:
            self.sizes.fix(*shape)
        return equation.params, [v.aval.shape for v in equation.outputs]

    def _results(
        self, equation: Equation, params: Params, shapes: Sequence[Shape]
    ) -> list[Shape] | None:
        """The shapes of results, `None` unless with numbers put in they are those traced."""
        resolve, primitive = self.sizes.resolve, equation.primitive
        operands = [
            a.aval.update(shape=[resolve(n) for n in shape])
            for a, shape in zip(equation.inputs, shapes, strict=True)
        ]
        try:
            answer: Any = primitive.shape(*operands, **_mapped(params, resolve))
        except Exception:  # a shape rule may object in any way
            return None
        avals: list[Aval] = list(answer) if primitive.multiple_results else [answer]
        for aval, variable in zip(avals, equation.outputs, strict=True):
            traced = [self.sizes.value(n) for n in aval.shape]
            if not same_type(aval.update(shape=traced), variable.aval):
                return None
        return [aval.shape for aval in avals]

    # --- loops and branches -----------------------------------------------------------------------

    def _scan(self, equation: Equation, shapes: Sequence[Shape]) -> tuple[Params, Sequence[Shape]]:
        params = equation.params
        consts, carry, xs = split(shapes, params["num_consts"], params["num_carry"])
        self.sizes.fix(*[x[0] for x in xs])
        body = self.program(params["program"], [*consts, *carry, *[x[1:] for x in xs]])
        outs = [self._shape(a) for a in body.outputs]
        self._same(carry, outs[: len(carry)])
        stacks = [(params["length"], *s) for s in outs[len(carry) :]]
        return {**params, "program": body}, [*carry, *stacks]

    def _while(self, equation: Equation, shapes: Sequence[Shape]) -> tuple[Params, Sequence[Shape]]:
        params = equation.params
        cond_consts, body_consts, carry = split(
            shapes, params["cond_nconsts"], params["body_nconsts"]
        )
        condition = self.program(params["cond_program"], [*cond_consts, *carry])
        body = self.program(params["body_program"], [*body_consts, *carry])
        self._same(carry, [self._shape(a) for a in body.outputs])
        return {**params, "cond_program": condition, "body_program": body}, carry

    def _cond(self, equation: Equation, shapes: Sequence[Shape]) -> tuple[Params, Sequence[Shape]]:
        branches = [self.program(p, shapes[1:]) for p in equation.params["branches"]]
        results = [[self._shape(a) for a in branch.outputs] for branch in branches]
        for others in results[1:]:
            self._same(results[0], others)
        return {**equation.params, "branches": tuple(branches)}, results[0]

    def _same(self, a: Sequence[Shape], b: Sequence[Shape]) -> None:
        for pair in zip(a, b, strict=True):
            self.sizes.all_equal(pair)


def _named(names: dict[Variable, Variable], variable: Variable, shape: Shape) -> Variable:
    names[variable] = Variable(variable.aval.update(shape=shape))
    return names[variable]


def _atom(names: dict[Variable, Variable], atom: Atom) -> Atom:
    return names[atom] if type(atom) is Variable else atom


def _mapped(value: Any, change: Any) -> Any:
    """A parameter with its symbolic sizes changed."""
    kind = cast("Any", type)(value)
    if kind is Dim:
        return change(value)
    if kind is tuple:
        return tuple([_mapped(v, change) for v in value])
    if kind is dict:
        return {k: _mapped(v, change) for k, v in value.items()}
    return value


# --- what remains ---------------------------------------------------------------------------------


def _settled(program: Program, sizes: Sizes) -> General | None:
    """The program with the symbols that are left, numbered as they come."""
    left: dict[str, DimSize] = {}

    def final(size: DimSize) -> DimSize:
        size = sizes.settle(size)
        if type(size) is not Dim:
            return size
        for name in sorted(size.symbols - left.keys(), key=lambda s: int(s[1:])):
            left[name] = symbol(f"b{len(left)}")
        return size.substitute(left)

    _visit(program, sizes.settle)  # giving up one size may be news to those met before it
    program = _replaced(program, final)
    if not left:
        return None
    return General(program, {str(new): sizes.values[old] for old, new in left.items()})


def with_numbers(program: Program, values: Mapping[str, int]) -> Program:
    """A program with numbers for its symbolic sizes."""

    def number(size: DimSize) -> DimSize:
        return size.substitute(values) if type(size) is Dim else size

    return _replaced(program, number)


def _visit(program: Program, see: Any) -> None:
    for equation in program.equations:
        for variable in equation.outputs:
            for size in variable.aval.shape:
                see(size)
        _mapped(equation.params, see)
        for nested in subprograms(equation.params):
            _visit(nested, see)


def _replaced(program: Program, final: Any) -> Program:
    names: dict[Variable, Variable] = {}

    def renamed(variable: Variable) -> Variable:
        return _named(names, variable, tuple([final(n) for n in variable.aval.shape]))

    inputs = [renamed(v) for v in program.inputs]
    equations: list[Equation] = []
    for equation in program.equations:
        params = {k: _replaced_param(v, final) for k, v in equation.params.items()}
        atoms = [_atom(names, a) for a in equation.inputs]
        outputs = [renamed(v) for v in equation.outputs]
        equations.append(equation.replace(inputs=atoms, outputs=outputs, params=params))
    return Program(inputs, equations, [_atom(names, a) for a in program.outputs], program.name)


def _replaced_param(value: Any, final: Any) -> Any:
    kind = cast("Any", type)(value)
    if kind is Program:
        return _replaced(value, final)
    if kind is tuple and value and cast("Any", type)(value[0]) is Program:
        return tuple([_replaced(p, final) for p in value])
    return _mapped(value, final)
