"""A backend for Covector that writes C99, made of Covector's public interface alone."""

from __future__ import annotations

from covector_c.backend import CBackend, CExecutable

__all__ = ["CBackend", "CExecutable"]
