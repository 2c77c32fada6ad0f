"""`python -m covector`: the command line."""

from covector.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
