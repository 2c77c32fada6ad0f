import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covector.core import dtypes
from covector.core.numerals import format_number, read_number

ALL = sorted(dtypes.ARRAY_DTYPES, key=str)


@st.composite
def scalars(draw, dtype):
    """Any value, drawn as bits, so that subnormals and NaNs of all kinds occur."""
    if dtype == dtypes.bool_:
        return np.bool_(draw(st.booleans()))
    data = draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    return np.frombuffer(data, dtype)[0]


@pytest.mark.parametrize("dtype", ALL, ids=str)
@given(data=st.data())
def test_any_bits_round_trip(dtype, data):
    value = data.draw(scalars(dtype))
    text = format_number(value, dtype)
    read = read_number(text, dtype)
    assert np.asarray(read, dtype).tobytes() == np.asarray(value, dtype).tobytes(), text


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, np.float32, "0.1"),
        (0.1, np.float64, "0.1"),
        (0.1, np.float16, "0.1"),
        (0.1, ml_dtypes.bfloat16, "0.1"),
        (256, ml_dtypes.bfloat16, "256.0"),
        (65504, np.float16, "65504.0"),
        (1e30, np.float32, "1e+30"),
        (2, np.float32, "2.0"),
        (-0.0, np.float32, "-0.0"),
        (np.inf, np.float16, "inf"),
        (-np.inf, np.float64, "-inf"),
        (np.nan, np.float32, "nan"),
        (-np.nan, np.float32, "nan#ffc00000"),
        (complex(1, -0.0), np.complex64, "1.0-0.0j"),
        (complex(np.nan, np.inf), np.complex64, "nan+infj"),
        (-3, np.int8, "-3"),
        (2**63, np.uint64, "9223372036854775808"),
        (True, np.bool_, "True"),
    ],
)
def test_text(value, dtype, text):
    dtype = np.dtype(dtype)
    scalar = np.asarray(value).astype(dtype)[()]
    assert format_number(scalar, dtype) == text


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("1.5", np.int32),
        ("300", np.int8),
        ("1", np.bool_),
        ("1.0", np.complex64),
        ("nan#ff", np.float32),
        ("x", np.float32),
    ],
)
def test_refuses_what_is_no_number_of_the_dtype(text, dtype):
    with pytest.raises(ValueError, match=r"\S"):
        read_number(text, np.dtype(dtype))
