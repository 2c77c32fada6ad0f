"""Run-time sizes: one compiled program for all sizes of a batch.

A function is traced anew for every size, which is cheap, and its program is generalised: what can
be the batch size becomes a symbol. `unify.py` finds which sizes have to be equal, by the `rules.py`
of primitives; `generalise.py` walks the program and rebuilds it; `literals.py` takes out scalars
that depend on the size, such as the 1/n of a mean, as parameters. Two sizes of one function give
the same general program, and that is the key of the compiled code.

Nothing is guessed: a general program with its sizes put in is the program that was traced. What
the analysis does not see through keeps its number, and the program is compiled for its own sizes.
"""
