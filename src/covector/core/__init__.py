"""Avals, programs, primitives and tracing: what everything else stands on."""
