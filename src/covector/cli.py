"""The `covector` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


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
    options = parser.parse_args(arguments)

    from covector.gallery.tour import run

    return run(options.picture, options.show_ir)
