"""`jit`: trace once for each signature, compile the whole program, call it with little overhead."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from covector import _native
from covector.core import backend as backends
from covector.core import config as settings
from covector.core import ladder, nans, notes, pytree
from covector.core.backend import Executable, Options
from covector.core.collection import collection_rare
from covector.core.config import config
from covector.core.device import Device, check_placement
from covector.core.dims import is_symbolic
from covector.core.errors import compose
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import (
    ProgramTrace,
    Tracer,
    aval_of,
    eval_program,
    get_trace,
    named_axes,
    trace_program,
)
from covector.transforms import donation
from covector.transforms.arguments import Statics
from covector.transforms.flat import FlatFunction, check_leaves, function_name, operands
from covector.transforms.stages import Lowered, Traced, canonical, shapes_only

SIGNATURES = 4096
"""How many signatures a function remembers; the oldest goes for one more."""


class _Static:
    """A static argument in its place in the pytree: part of the structure, not a leaf."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Static) or type(self.value) is not type(other.value):
            return False  # 1, 1.0 and True are equal, but trace differently
        return bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


pytree.register_static(_Static)


class Call:
    """One signature of a jitted function, traced.

    Attributes:
        program: the traced program; captured values are its leading inputs.
        captured: tracers of enclosing transformations that the function closes over.
        out_tree: the structure of its output.
        kept: positions of the inputs that the compiled code takes; `None` for all of them.
        donated: positions of the inputs whose arrays end with the call, with what to say of them.
        notes: what was decided while tracing (see `covector.core.notes`).
        seconds: that tracing took.
    """

    __slots__ = (
        "captured",
        "donated",
        "executable",
        "kept",
        "notes",
        "out_tree",
        "program",
        "seconds",
    )

    def __init__(self, program: Program, captured: list[Any], out_tree: Any) -> None:
        self.program = program
        self.captured = captured
        self.out_tree = out_tree
        self.executable: Executable | None = None
        self.kept: list[int] | None = None
        self.donated: tuple[tuple[int, str], ...] = ()
        self.notes: list[Any] = []
        self.seconds = 0.0


class Compiler:
    """What a jitted function does beyond its fast path: tracing, compiling, calls on tracers.

    Args:
        fun: the original function.
        statics: which arguments are compile-time constants.
        donated: which arguments give up their memory.
        fixed: which arguments' sizes the function is compiled for.
        options: `keep_unused`, `backend`, `inline` and `effort` of `jit`.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        statics: Statics,
        donated: Statics,
        fixed: Statics,
        options: dict[str, Any],
    ) -> None:
        self.fun = fun
        self.name = function_name(fun)
        self.statics = statics
        self.donated = donated
        self.fixed = fixed
        self.options = options
        self.keep_unused: bool = options["keep_unused"]
        self.backend: str | None = options["backend"]
        self.inline: bool = options["inline"]
        self.effort: int = options["effort"]
        self.calls: dict[Any, Call] = {}
        self._lock = threading.Lock()
        self.dispatcher: Any = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a call that the dispatcher does not know."""
        if config.disable_jit:
            return self.fun(*args, **kwargs)
        leaves, tree = self.flatten(args, kwargs)
        call = self.traced(leaves, tree)
        if get_trace() is None and not any([isinstance(x, Tracer) for x in leaves]):
            given = canonical(leaves)
            executable = self.executable(call, args, kwargs)
            watched = settings.watching and nans.enabled()
            if watched:  # what is donated is needed once more to find where a NaN is from
                given = donation.kept_alive(given, call.donated)
            elif given is leaves:
                self._remember(call, args, kwargs)
            results = executable(*given if call.kept is None else [given[k] for k in call.kept])
            if watched:
                nans.check_outputs(self.name, call.program, leaves, results)
            for k, why in call.donated:
                donation.end(leaves[k], why)
        elif self.inline and isinstance(get_trace(), ProgramTrace):
            results = eval_program(call.program, *call.captured, *operands(leaves))
        else:
            from covector.ops.call import call as call_primitive

            results = call_primitive(
                *call.captured,
                *leaves,
                program=call.program,
                name=self.name,
                inline=self.inline,
            )
        return pytree.unflatten(call.out_tree, results)

    def flatten(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
        """The array arguments, and the structure with the static ones in it."""
        if self.statics:
            args = [
                self._static(a, f"argument {i}") if i in self.statics.numbers else a
                for i, a in enumerate(args)
            ]
            kwargs = {
                k: self._static(v, f"argument {k!r}") if k in self.statics.names else v
                for k, v in kwargs.items()
            }
        leaves, tree = pytree.flatten((tuple(args), kwargs))
        check_leaves(f"jit of {self.name}: arguments", (tuple(args), kwargs))
        return leaves, tree

    def _static(self, value: Any, which: str) -> _Static:
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                compose(
                    f"jit of {self.name}: static {which} must be hashable",
                    found=f"{type(value).__name__} {value!r}"[:200],
                    fix="pass a tuple instead of a list, or do not mark it static",
                    line=here(),
                )
            ) from None
        return _Static(value)

    def traced(self, leaves: Sequence[Any], tree: Any) -> Call:
        """The function traced for a signature, from memory where it was before."""
        avals = tuple([aval_of(x) for x in leaves])
        key = (tree, avals, config.trace_key(), named_axes())
        call = self.calls.get(key)
        if call is None:
            flat = FlatFunction(self._with_statics, tree, name=self.name)
            start = time.perf_counter()
            with notes.collected() as found, collection_rare():
                program, captured = trace_program(flat, avals, self.name)
            seconds = time.perf_counter() - start
            if ladder.shows(ladder.TIMES):
                ladder.report_trace(self.name, program, seconds, key, list(self.calls))
            call = Call(program, captured, flat.out_tree)
            call.notes, call.seconds = found, seconds
            if not captured:
                self._keep(key, call)
        for note in call.notes:
            notes.leave(note)  # for the function that is being traced, if one is
        return call

    def _keep(self, key: Any, call: Call) -> None:
        with self._lock:
            self.calls[key] = call
            if len(self.calls) > SIGNATURES:
                del self.calls[next(iter(self.calls))]

    def _with_statics(self, *args: Any, **kwargs: Any) -> Any:
        args = tuple([a.value if type(a) is _Static else a for a in args])
        kwargs = {k: v.value if type(v) is _Static else v for k, v in kwargs.items()}
        return self.fun(*args, **kwargs)

    def executable(self, call: Call, args: Sequence[Any], kwargs: dict[str, Any]) -> Executable:
        """The compiled form of a traced call."""
        if call.executable is None:
            program = call.program
            used = _used_inputs(program)
            fixed = set(self.fixed.leaves(args, kwargs, self.statics))
            if not self.keep_unused and len(used) < len(program.inputs):
                call.kept = used
                program = program.replace(inputs=[program.inputs[k] for k in used])
                fixed = {used.index(k) for k in fixed if k in used}
            donated = self._donated(call, args, kwargs)
            options = Options(self.effort, self.name, tuple(sorted(fixed)), donated)
            call.executable = backends.executable(program, options, self.backend)
        return call.executable

    def _donated(
        self, call: Call, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> tuple[tuple[int, str], ...]:
        """Which inputs of the compiled code are donated, with what to say of them later."""
        given = self.donated.leaves(args, kwargs, self.statics)
        if not given:
            return ()
        kept = range(len(call.program.inputs)) if call.kept is None else call.kept
        texts = donation.labels(self.name, self.donated, self.statics, args, kwargs)
        given = donation.usable(self.name, call.program, [k for k in given if k in kept])
        call.donated = tuple([(k, texts[k]) for k in given])
        return tuple([(kept.index(k), texts[k]) for k in given])

    def _remember(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Lets the next call of this signature run without Python."""
        native = getattr(call.executable, "native", None)
        if native is not None and not call.captured:
            recipe = _output_recipe(call.out_tree)
            self.dispatcher.insert(args, kwargs, native, recipe, call.kept)


def _used_inputs(program: Program) -> list[int]:
    """Positions of the inputs that an equation or output reads; all where they tell sizes."""
    if any(is_symbolic(aval.shape) for aval in program.input_avals):
        return list(range(len(program.inputs)))
    read: set[Any] = set(program.outputs)
    for equation in program.equations:
        read.update(equation.inputs)
    return [k for k, variable in enumerate(program.inputs) if variable in read]


class JitFunction(_native.Dispatcher):
    """What `jit` returns: called like the function, it runs compiled code.

    Attributes:
        __wrapped__: the original function.
    """

    _compiler: Compiler

    def __new__(cls, fun: Callable[..., Any], **options: Any) -> JitFunction:
        statics = Statics(fun, options["static_argnums"], options["static_argnames"])
        donated = Statics(fun, options["donate_argnums"], options["donate_argnames"], "donate")
        fixed = Statics(
            fun, options["fixed_size_argnums"], options["fixed_size_argnames"], "fixed_size"
        )
        both = (statics.numbers & donated.numbers) or (statics.names & donated.names)
        if both:
            name = function_name(fun)
            raise ValueError(f"jit of {name}: {sorted(both)} are both static and donated")
        compiler = Compiler(fun, statics, donated, fixed, options)
        self = super().__new__(
            cls,
            compiler,
            static_argnums=statics.numbers,
            static_argnames=statics.names,
            capacity=SIGNATURES,
        )
        self._compiler = compiler
        compiler.dispatcher = self
        functools.update_wrapper(self, fun, updated=())
        return self

    def __init__(self, fun: Callable[..., Any], **options: Any) -> None:
        """Nothing is left to do."""

    def __repr__(self) -> str:
        return f"<jit of {self._compiler.name}>"

    def __reduce__(self) -> Any:
        # By name where the name means this object, as with a decorated function of a module.
        fun = self._compiler.fun
        module = sys.modules.get(getattr(fun, "__module__", ""))
        name = getattr(fun, "__qualname__", "")
        if module is not None and getattr(module, name, None) is self:
            return name
        return functools.partial(JitFunction, **self._compiler.options), (fun,)

    # --- staged compilation -------------------------------------------------------------------

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """Traces for these arguments (arrays, or anything with shape and dtype)."""
        leaves, tree = self._compiler.flatten(*shapes_only(args, kwargs))
        return Traced(self._compiler, self._compiler.traced(leaves, tree), (args, kwargs))

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """Traces and prepares compilation for these arguments."""
        return self.trace(*args, **kwargs).lower()

    def explain(
        self,
        *args: Any,
        sections: str | Sequence[str] | None = None,
        run: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What the function compiles to for these arguments, and why; see `covector.inspect`.

        Args:
            *args: as for a call: arrays, or anything with shape and dtype.
            sections: which parts of the report, by name; by default all but the long listings.
            run: measure a call too; the arguments must be arrays then.
            **kwargs: as for a call. Where the function has keywords `sections` or `run` itself,
                `lower(*args, **kwargs).explain(...)` takes them.

        Returns:
            A `covector.inspect.Report`, whose text is for people.

        Raises:
            ValueError: for a section that there is not, or if there is nothing to run.
        """
        return self.lower(*args, **kwargs).explain(sections=sections, run=run)

    def eval_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The output's shapes and dtypes, without running anything."""
        return self.trace(*args, **kwargs).out_info

    def clear_cache(self) -> None:
        """Forgets everything traced and compiled."""
        self._compiler.calls.clear()
        self.clear()


def _output_recipe(tree: Any) -> Any:
    """How the dispatcher makes an output: results by number in their containers, or a function."""
    recipe = pytree.unflatten(tree, list(range(tree.num_leaves)))
    return recipe if _is_plain(recipe) else functools.partial(pytree.unflatten, tree)


_type_of: Callable[[Any], Any] = type


def _is_plain(recipe: Any) -> bool:
    kind = _type_of(recipe)
    if kind in (tuple, list):
        return all([_is_plain(x) for x in recipe])
    if kind is dict:
        return all([_is_plain(x) for x in recipe.values()])
    return recipe is None or kind is int


def jit(
    fun: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] | None = None,
    static_argnames: str | Sequence[str] | None = None,
    donate_argnums: int | Sequence[int] | None = None,
    donate_argnames: str | Sequence[str] | None = None,
    keep_unused: bool = False,
    backend: str | None = None,
    inline: bool = False,
    effort: int = 2,
    device: Device | None = None,
    in_shardings: None = None,
    out_shardings: None = None,
    compiler_options: dict[str, Any] | None = None,
    fixed_size_argnums: int | Sequence[int] | None = None,
    fixed_size_argnames: str | Sequence[str] | None = None,
) -> Any:
    """Compiles a function to native code, once for each signature it is called with.

    A signature that differs from an earlier one in the size of a batch alone is traced again, but
    not compiled: code for a batch, along the leading axes of arguments, serves all sizes.

    Args:
        fun: a pure function of pytrees of arrays; without it, returns a decorator.
        static_argnums: positions of arguments that are compile-time constants (hashable).
        static_argnames: their names.
        donate_argnums: positions of arguments that end with the call: results take their memory
            where they can (`docs/threads.md`), so that `x.at[i].set(v)` writes `v` alone. Their
            arrays are deleted, and using them afterwards is an error; those of which no result
            has the size are left alone, with a warning.
        donate_argnames: their names.
        keep_unused: pass arguments the function does not use to the compiled code all the same,
            which otherwise does not take them.
        backend: which backend compiles; by default, or with "cpu", that of `COVECTOR_BACKEND`.
        inline: when called while a program is traced, become part of it instead of a call in it.
        effort: 0 compiles fastest, 3 runs fastest.
        device: `None` or one of `covector.devices()`.
        in_shardings: must be `None`, like `out_shardings`: there is one device.
        out_shardings: likewise.
        compiler_options: must be empty: they are XLA's. `effort` is an option of Covector.
        fixed_size_argnums: positions of arguments for whose sizes code is compiled anew. It may be
            faster than code for all sizes: small arrays live in registers.
        fixed_size_argnames: their names.

    Returns:
        The compiled function, with `trace`, `lower`, `explain`, `eval_shape` and `clear_cache`.

    Raises:
        TypeError: if `fun` is no function.
        ValueError: for devices, shardings and options that there are not, and for arguments that
            are both static and donated.

    >>> import covector as cv
    >>> @cv.jit
    ... def f(x):
    ...     return 2 * x + 1
    >>> f(3.0)
    Array(7., dtype=float32, weak_type=True)
    """
    options: dict[str, Any] = {
        "static_argnums": static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
        "keep_unused": keep_unused,
        "backend": None if backend == "cpu" else backend,
        "inline": inline,
        "effort": effort,
        "fixed_size_argnums": fixed_size_argnums,
        "fixed_size_argnames": fixed_size_argnames,
    }
    check_placement(device, in_shardings, out_shardings, compiler_options)
    if fun is None:
        return functools.partial(_jit, **options)
    return _jit(fun, **options)


def _jit(fun: Callable[..., Any], **options: Any) -> JitFunction:
    if not callable(fun):
        raise TypeError(f"jit expects a function, got {type(fun).__name__}: {fun!r}")
    return JitFunction(fun, **options)


def eval_shape(fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes and dtypes of a function's output, without computing it.

    >>> import covector as cv
    >>> cv.eval_shape(lambda x: x[:2], cv.ShapeDtypeStruct((5,), "float32"))
    ShapeDtypeStruct(shape=(2,), dtype=float32)
    """
    return jit(fun).eval_shape(*args, **kwargs)
