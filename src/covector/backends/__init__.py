"""Backends: the reference interpreter and the native compiler."""
