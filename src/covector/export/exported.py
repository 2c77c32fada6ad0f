"""Functions for given shapes, apart from the Python that made them."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import pytree
from covector.core.avals import Aval
from covector.core.errors import (
    DeserializationError,
    ExportError,
    compose,
)
from covector.core.libraries import LibraryFunction, LibraryOptions
from covector.core.program import Program, symbols_of
from covector.core.source import here
from covector.core.trace import aval_of, eval_program
from covector.export import programs
from covector.export.library import Library, identifiers, write_library
from covector.export.rules import at_sizes
from covector.export.trees import LONGEST_KEY, read_tree, write_tree
from covector.export.wire import Reader, Writer, packed, unpacked
from covector.transforms.autodiff import vjp
from covector.transforms.flat import function_name
from covector.transforms.jit import JitFunction, jit
from covector.transforms.stages import ShapeDtypeStruct, shapes_only

FUNCTION = b"FUNC"
PLATFORMS = ("cpu",)
MOST_NAMES = 1 << 16


class Exported:
    """A function for given shapes and dtypes, ready to be called, written to a file, or compiled.

    Attributes:
        fun_name: of the function.
        in_tree: structure of `(args, kwargs)`, static arguments left out.
        in_avals: shape and dtype of each array in it.
        in_names: a name for each, an identifier.
        out_tree: structure of its result.
        out_avals: shape and dtype of each array in that.
        out_names: a name for each.
        platforms: where it runs, ("cpu",): on all machines that Covector has a backend for.
        program: what it computes.
    """

    def __init__(
        self,
        program: Program,
        fun_name: str,
        in_tree: pytree.PyTreeDef,
        in_names: Sequence[str],
        out_tree: pytree.PyTreeDef,
        out_names: Sequence[str],
    ) -> None:
        self.program = program
        self.fun_name = fun_name
        self.in_tree = in_tree
        self.in_names = tuple(in_names)
        self.out_tree = out_tree
        self.out_names = tuple(out_names)
        self.platforms = PLATFORMS
        self._jitted: Any = None

    @property
    def in_avals(self) -> tuple[Aval, ...]:
        return tuple(self.program.input_avals)

    @property
    def out_avals(self) -> tuple[Aval, ...]:
        return tuple(self.program.output_avals)

    def __repr__(self) -> str:
        ins = ", ".join([f"{n}: {a}" for n, a in zip(self.in_names, self.in_avals, strict=True)])
        return f"<exported {self.fun_name}({ins}) -> {', '.join(map(str, self.out_avals))}>"

    def as_text(self) -> str:
        """The program as text."""
        return self.program.as_text()

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function; works under `jit`, `grad`, `vmap` and all else.

        Args:
            *args: as it was exported for, without static arguments.
            **kwargs: likewise.

        Returns:
            Its result.

        Raises:
            TypeError: if structure or dtypes are others.
            ValueError: if shapes are.
        """
        leaves, tree = pytree.flatten((args, kwargs))
        if tree != self.in_tree:
            raise TypeError(
                compose(
                    f"{self.fun_name} was exported for other arguments",
                    found=f"{tree} instead of {self.in_tree}",
                    line=here(),
                )
            )
        self._check(leaves)
        if self._jitted is None:
            self._jitted = jit(self._run)
        return pytree.unflatten(self.out_tree, self._jitted(*leaves))

    def _run(self, *leaves: Any) -> list[Any]:
        return eval_program(at_sizes(self.program, leaves), *leaves)

    def _check(self, leaves: Sequence[Any]) -> None:
        for name, leaf, wanted in zip(self.in_names, leaves, self.in_avals, strict=True):
            found = aval_of(leaf)
            same = found.dtype == wanted.dtype and len(found.shape) == len(wanted.shape)
            numbers = zip(found.shape, wanted.shape, strict=True) if same else ()
            if not same or any(m != n for m, n in numbers if type(n) is type(m) is int):
                raise (ValueError if found.dtype == wanted.dtype else TypeError)(
                    compose(
                        f"{self.fun_name} was exported for another {name}",
                        found=f"{found} instead of {wanted}",
                        fix="convert or reshape it, or export the function for it",
                        line=here(),
                    )
                )

    # --- derivatives ---

    def has_vjp(self) -> bool:
        """Whether there is a derivative: always, of any order."""
        return True

    def vjp(self) -> Exported:
        """The pullback as an exported function.

        Returns:
            A function that takes the arguments and then a cotangent for each result, all flat, and
            returns a tuple with a cotangent for each argument.
        """
        count = len(self.in_avals)

        def pullback(*values: Any) -> tuple[Any, ...]:
            _, pull = vjp(self._run, *values[:count])
            return tuple(pull(list(values[count:])))

        cotangents = [a.tangent() for a in self.out_avals]
        shapes = [ShapeDtypeStruct(a.shape, a.dtype) for a in (*self.in_avals, *cotangents)]
        found = _exported(jit(pullback), f"{self.fun_name}_vjp", (shapes, {}))
        names = identifiers([*self.in_names, *[f"ct_{n}" for n in self.out_names]], found.program)
        outs = identifiers([f"d_{n}" for n in self.in_names], found.program, names)
        return Exported(found.program, found.fun_name, found.in_tree, names, found.out_tree, outs)

    # --- files ---

    def serialize(self, vjp_order: int = 0) -> bytearray:
        """The function as bytes, for `deserialize`.

        Args:
            vjp_order: how many derivatives are wanted of what is read back: it has those of all
                orders in any case.

        Returns:
            The bytes: no pickle, and no code of Python.

        Raises:
            ExportError: if it calls Python, or uses what cannot be written.
        """
        if vjp_order < 0:
            raise ValueError(f"vjp_order is at least 0, found {vjp_order}")
        out = Writer()
        out.text(_version())
        out.text(self.fun_name)
        for names, tree in ((self.in_names, self.in_tree), (self.out_names, self.out_tree)):
            out.number(len(names))
            for name in names:
                out.text(name)
            write_tree(tree, out)
        data = packed({FUNCTION: bytes(out.data), **programs.write(self.program)})
        try:
            deserialize(data)
        except DeserializationError as error:
            raise ExportError(f"{self.fun_name} is more than can be read again: {error}") from error
        return bytearray(data)

    def library(
        self,
        name: str = "",
        *,
        backend: str | None = None,
        kind: str = "",
        target: str = "",
        cpu: str = "",
        effort: int = 2,
        blas: str = "",
    ) -> Library:
        """A library with this function alone; see `library`.

        Args:
            name: of the function in the library, and of the library; by default its own.
            backend: which writes it.
            kind: of library.
            target: machine that it is for.
            cpu: of that machine.
            effort: 0 compiles fastest, 3 runs fastest.
            blas: to link with.

        Returns:
            The files.
        """
        name = name or re.sub(r"\W", "_", self.fun_name)
        return library(
            {name: self},
            name,
            backend=backend,
            kind=kind,
            target=target,
            cpu=cpu,
            effort=effort,
            blas=blas,
        )


def library(
    functions: dict[str, Exported],
    name: str,
    *,
    backend: str | None = None,
    kind: str = "",
    target: str = "",
    cpu: str = "",
    effort: int = 2,
    blas: str = "",
) -> Library:
    """Compiles exported functions into a library that runs without Python.

    Args:
        functions: by the symbols that they get, identifiers of C.
        name: of the library; files are called after it.
        backend: which writes it; by default that of `COVECTOR_BACKEND`.
        kind: what to write, one of the backend's `library_kinds`: for native code "shared",
            "static" or "object"; by default the first.
        target: LLVM's triple of the machine that it is for, such as "aarch64-linux-gnu"; by default
            this one.
        cpu: of that machine; by default what all of its kind have, "native" for this very one.
        effort: 0 compiles fastest, 3 runs fastest.
        blas: the BLAS to link large products and factors of matrices with, such as "openblas"; by
            default the code for them is part of the library, where the backend has any.

    Returns:
        The files, a C header among them where C can call the functions.

    Raises:
        MissingCapabilityError: if the backend writes no libraries, or not of this kind, or for what
            cannot run without Python.
        CompilationError: if the library cannot be compiled.

    Example:
        >>> import covector as cv
        >>> from covector.extend.backends import MissingCapabilityError
        >>> f = export(cv.jit(lambda x: 2 * x))(cv.ShapeDtypeStruct((3,), "float32"))
        >>> try:
        ...     library({"twice": f}, "numbers", backend="reference")
        ... except MissingCapabilityError as error:
        ...     print(error)
        the backend 'reference' lacks: libraries
          found: it writes none
          fix: choose another backend, as 'native'
    """
    asked = [
        LibraryFunction(symbol, f.program, f.in_names, f.out_names)
        for symbol, f in functions.items()
    ]
    return write_library(asked, LibraryOptions(name, kind, target, cpu, effort, blas), backend)


def export(
    fun: Callable[..., Any], *, platforms: Sequence[str] | None = None
) -> Callable[..., Exported]:
    """A function that exports `fun` for given arguments.

    Args:
        fun: a function of pytrees of arrays, jitted or not.
        platforms: where it is to run: "cpu", which is the default.

    Returns:
        A function that takes the arguments (arrays, or `ShapeDtypeStruct`s whose shapes may have
        the sizes of `symbolic_shape`) and returns an `Exported`.

    Raises:
        TypeError: if `fun` is no function.
        ValueError: for other platforms.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector.export import symbolic_shape
        >>> def total(x):
        ...     return cnp.sum(x * x)
        >>> x = cv.ShapeDtypeStruct(symbolic_shape("n"), "float32")
        >>> exported = export(cv.jit(total))(x)
        >>> exported
        <exported total(x: f32[n]) -> f32[]>
        >>> again = deserialize(exported.serialize())
        >>> float(again.call(cnp.arange(4.0))), cv.grad(again.call)(cnp.arange(3.0))
        (14.0, Array([0., 2., 4.], dtype=float32))
    """
    if not callable(fun):
        raise TypeError(f"export expects a function, got {type(fun).__name__}")
    if platforms is not None and tuple(platforms) != PLATFORMS:
        raise ValueError(f"functions are exported for {PLATFORMS}, found {tuple(platforms)}")
    jitted = fun if isinstance(fun, JitFunction) else jit(fun)

    def exporting(*args: Any, **kwargs: Any) -> Exported:
        return _exported(jitted, function_name(fun), (args, kwargs))

    return exporting


def _exported(jitted: JitFunction, name: str, given: tuple[Any, dict[str, Any]]) -> Exported:
    compiler = jitted._compiler
    args, kwargs = given
    traced = jitted.trace(*args, **kwargs)
    call = traced._call
    if call.captured:
        raise ExportError(
            compose(
                f"{name} uses a traced value from outside",
                found=", ".join([str(aval_of(x)) for x in call.captured]),
                fix="export it outside of other transformations, or pass the value",
                line=here(),
            )
        )
    statics = compiler.statics
    positions = [i for i in range(len(args)) if i not in statics.numbers]
    kept_args, kept_kwargs = shapes_only(
        tuple([args[i] for i in positions]),
        {k: v for k, v in kwargs.items() if k not in statics.names},
    )
    in_tree = pytree.structure((kept_args, kept_kwargs))
    parameters = _parameters(compiler.fun)
    names = [
        _name(path, positions, parameters)
        for path, _ in pytree.leaves_with_path((kept_args, kept_kwargs))
    ]
    results = pytree.unflatten(call.out_tree, list(range(call.out_tree.num_leaves)))
    out_names = [_joined(["result", *path]) for path, _ in pytree.leaves_with_path(results)]
    in_names = identifiers(names, call.program)
    outs = identifiers(out_names, call.program, in_names)
    return Exported(call.program, name, in_tree, in_names, call.out_tree, outs)


def _parameters(fun: Callable[..., Any]) -> list[str]:
    """Names of the positional parameters."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in positional]


def _name(path: Sequence[Any], positions: Sequence[int], parameters: Sequence[str]) -> str:
    """What an array is called: the parameter that it is part of, and the way to it."""
    rest = path[2:]
    if path[0][0] == 1:
        return _joined(path[1:])
    place: int = path[1][0]
    number = positions[place]
    first = parameters[number] if number < len(parameters) else f"arg{number}"
    return _joined([first, *rest])


def _joined(steps: Sequence[Any]) -> str:
    return "_".join([s if isinstance(s, str) else str(s[0]) for s in steps])


def deserialize(blob: bytes | bytearray | memoryview) -> Exported:
    """Reads what `Exported.serialize` wrote; safe for bytes from anyone.

    Nothing in them is run, and all of it is checked: sizes, checksums, and the program by the
    shape rules of its operations.

    Args:
        blob: the bytes.

    Returns:
        The function.

    Raises:
        DeserializationError: if they are damaged, of another major version of the format, or use
            operations that are not known here.
        TypeError: if they are no bytes.

    Example:
        >>> try:
        ...     deserialize(b"something else")
        ... except DeserializationError as error:
        ...     print(error)
        this is no serialised function: it does not begin like one
    """
    if not isinstance(blob, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"deserialize takes bytes, found {type(blob).__name__}")
    try:
        sections, _ = unpacked(bytes(blob), programs.SECTIONS | {FUNCTION})
        return _read(sections)
    except DeserializationError:
        raise
    except Exception as error:  # whatever rules of operations make of what they never get otherwise
        raise DeserializationError(
            f"it holds a program that is not valid: {type(error).__name__}: {error}"
        ) from error


def _read(sections: dict[bytes, Reader]) -> Exported:
    source = sections[FUNCTION]
    version = source.text(64)
    name = source.text(LONGEST_KEY)
    trees: list[pytree.PyTreeDef] = []
    names: list[list[str]] = []
    for _ in range(2):
        count = source.count(MOST_NAMES, "names")
        names.append([source.text(LONGEST_KEY) for _ in range(count)])
        trees.append(read_tree(source)[0])
    source.finish()
    try:
        program = programs.read(sections)
    except DeserializationError as error:
        if "not known here" in str(error) and version != _version():
            raise DeserializationError(f"{error} (it was written by {version})") from error
        raise
    avals = (program.input_avals, program.output_avals)
    for own, tree, found in zip(names, trees, avals, strict=True):
        if not len(own) == tree.num_leaves == len(found):
            raise DeserializationError("names, structure and arrays do not go together")
    used = [*names[0], *names[1], *symbols_of(program)]
    if len({*used}) != len(used) or not all([_is_identifier(n) for n in used]):
        raise DeserializationError("names of arguments and results that are no identifiers")
    return Exported(program, name, trees[0], names[0], trees[1], names[1])


def _is_identifier(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _version() -> str:
    from covector import __version__

    return f"Covector {__version__}"
