"""Lanes: the parts of a program that treat the elements along one axis independently.

Whoever batched a program (Covector's `vmap`, JAX's, the user's own broadcasting), a loop often does
the same to each of many independent elements. `flow` follows an axis through a program, with
`partials` and `control` for results that are sums over lanes and for loops and branches, `frozen`
for when a chunk of lanes may leave a loop; `regions` finds the equations around a loop that
separate along the same axis; `narrow` builds the program for a chunk of them. `distribute` gives
what all lanes share a loop of its own. The pass is `covector.compiler.passes.lanes`.
"""
