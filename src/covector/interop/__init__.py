"""Exchange with other systems: programs from JAX."""

from __future__ import annotations

from covector.interop.jaxpr import JaxprError, from_jax, from_jaxpr, missing_primitives

__all__ = ["JaxprError", "from_jax", "from_jaxpr", "missing_primitives"]
