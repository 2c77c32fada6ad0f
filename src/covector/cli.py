"""The `covector` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: those of the command; by default the process's.

    Returns:
        The exit status.
    """
    import covector

    parser = argparse.ArgumentParser(
        prog="covector", description="Differentiable array programs, compiled to native code."
    )
    parser.add_argument("--version", action="version", version=covector.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    tour = commands.add_parser("tour", help="calibrate an epidemic model to a real outbreak")
    tour.add_argument(
        "--show-ir",
        action="store_true",
        help="print the program of a small simulation, its gradient, and the loop IR",
    )
    tour.add_argument(
        "--picture",
        type=Path,
        default=Path("covector-tour.png"),
        help="where to save the picture (default: %(default)s)",
    )
    _add_explain(commands)
    options = parser.parse_args(arguments)
    if options.command == "explain":
        return _explain(options)

    from covector.gallery.tour import run

    return run(options.picture, options.show_ir)


def _add_explain(commands: Any) -> None:
    explain = commands.add_parser(
        "explain",
        help="what a function of a script compiles to, and why",
        description="What a function of a script compiles to for some arguments, and why.",
    )
    explain.add_argument("target", metavar="script.py:function", help="jitted or plain")
    explain.add_argument(
        "--args",
        nargs="*",
        default=[],
        metavar="ARG",
        help='of the call: shapes such as "f32[1000,3]" or Python expressions such as '
        '"cnp.ones((1000, 3))", where cv, cnp, np and the names of the script are known; '
        '"name=..." for keyword arguments',
    )
    explain.add_argument(
        "--static",
        nargs="*",
        default=[],
        metavar="ARG",
        help="positions or names of arguments that are compile-time constants",
    )
    explain.add_argument(
        "--section",
        action="append",
        metavar="NAME",
        help="a part of the report, several with commas; all for every part",
    )
    explain.add_argument(
        "--run",
        action="store_true",
        help="measure calls, too; shapes stand for arrays of ones then",
    )


def _explain(options: argparse.Namespace) -> int:
    from covector.inspect.command import CommandError, run

    sections = ",".join(options.section) if options.section else None
    try:
        return run(
            options.target, options.args, sections, static=options.static, measure=options.run
        )
    except CommandError as error:
        print(f"covector: {error}", file=sys.stderr)
        return 2
