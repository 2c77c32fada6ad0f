"""Elementwise functions against NumPy (values) and JAX (types), over dtypes and shapes."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, sample

