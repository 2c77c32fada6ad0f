"""Differentiation, batching, compilation: what users apply to functions."""
