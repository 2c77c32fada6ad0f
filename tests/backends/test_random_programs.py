"""Backends agree with the interpreter on random programs."""

import numpy as np
from hypothesis import given

from covector.core import backend
from covector.core.backend import Options
from covector.core.interpret import run
from covector.testing.programs import arguments, programs


@given(program=programs())
def test_native_backend_agrees_with_the_interpreter(program):
    values = arguments(program)
    results = backend.get_backend("native").compile(program, Options())(*values)
    for result, expected in zip(results, run(program, *values), strict=True):
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(
            np.asarray(result, np.float64),
            expected.astype(np.float64),
            rtol=2e-5,
            atol=1e-5,
            err_msg=program.as_text(),
        )
