from __future__ import annotations

import copy
import itertools
import pickle
import warnings
from enum import IntEnum

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax._src import core as jax_core
from jax._src import dtypes as jax_dtypes
from jax._src.lax.lax import _convert_element_type

from covector.core import dtypes
from covector.core.config import enable_x64
from covector.core.errors import TypePromotionError
from covector.core.promotion import lattice_result, promote_types, result_type

NAMES = sorted(str(dtype) for dtype in dtypes.ARRAY_DTYPES)
ALL = [dtypes.as_dtype(name) for name in NAMES]
PYTHON_TYPES = [int, float, complex]
KINDS = [
    np.generic,
    np.number,
    np.integer,
    np.signedinteger,
    np.unsignedinteger,
    np.inexact,
    np.floating,
    np.complexfloating,
    np.bool_,
]


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def x64(request):
    with enable_x64(request.param), jax.enable_x64(request.param):
        yield request.param


def jax_operand(dtype, weak):
    """An array of JAX's with this very dtype and weakness, whatever the x64 setting."""
    with jax.enable_x64(True):
        value = jnp.zeros((), dtype)
        return _convert_element_type(value, dtype, weak_type=weak)


def jax_result(*operands):
    with warnings.catch_warnings():
        # JAX mentions that it truncates the 64-bit dtypes that 64-bit operands meet in.
        warnings.simplefilter("ignore", UserWarning)
        return jax_dtypes.lattice_result_type(*operands)


def operand_pairs():
    weak = [dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64, dtypes.complex64]
    weak += [dtypes.int16, dtypes.bfloat16, dtypes.complex128]
    return [(dtype, False) for dtype in ALL] + [(dtype, True) for dtype in weak]


def test_there_are_fifteen_dtypes():
    assert len(ALL) == 15


def test_pairs_meet_as_in_jax(x64):
    operands = {pair: jax_operand(*pair) for pair in operand_pairs()}
    for a, b in itertools.product(operands, repeat=2):
        expected = jax_result(operands[a], operands[b])
        assert lattice_result([a, b]) == expected, (a, b)


def test_triples_meet_as_in_jax(x64):
    operands = {pair: jax_operand(*pair) for pair in operand_pairs()}
    triples = list(itertools.combinations(operands, 3))
    for triple in triples[:: len(triples) // 400]:
        expected = jax_result(*[operands[pair] for pair in triple])
        assert lattice_result(triple) == expected, triple


def test_promotion_of_types_is_jaxs(x64):
    for a, b in itertools.product(ALL + PYTHON_TYPES, repeat=2):
        assert promote_types(a, b) == jnp.promote_types(a, b), (a, b)


def test_python_scalars_are_weak(x64):
    for value in (True, 1, 1.0, 1j):
        ours = dtypes.dtype_of(value)
        assert ours == jax_result(value)
        assert ours == dtypes.python_scalar_dtype(type(value))


def test_numpy_values_are_canonicalised(x64):
    for dtype in ALL:
        for value in (np.zeros(2, dtype), np.zeros((), dtype)[()]):
            assert dtypes.dtype_of(value) == jax_result(value)


def test_float64_scalar_is_no_python_float(x64):
    assert dtypes.dtype_of(np.float64(1.0)) == (dtypes.default_float(), False)


def test_subclasses_of_python_scalars_are_strong(x64):
    class Choice(IntEnum):
        FIRST = 1

    assert dtypes.dtype_of(Choice.FIRST) == jax_result(Choice.FIRST)


@pytest.mark.parametrize("value", ["text", None, [1.0], object()])
def test_other_values_are_refused(value):
    with pytest.raises(TypeError, match=r"an array or a number is needed(.|\n)*asarray"):
        dtypes.dtype_of(value)


def test_result_type_takes_values_and_types(x64):
    cases = [(1, 2.0), (np.int8(1), 2.0), (np.zeros(2, np.float16), 1j), (np.int32, float)]
    cases += [(np.dtype("int16"), np.zeros(1, np.uint16)), (True, 3), (np.uint32(1), np.int32(1))]
    for case in cases:
        assert result_type(*case) == jax_result(*case), case
    with pytest.raises(ValueError, match="at least one"):
        result_type()


def test_canonical_form(x64):
    for dtype in ALL:
        assert dtypes.canonicalize(dtype) is dtypes.canonicalize(str(dtype))
        assert dtypes.canonicalize(dtype) == jax.dtypes.canonicalize_dtype(dtype)
        if dtype.itemsize > 1 and dtype != dtypes.bfloat16:
            swapped = dtype.newbyteorder()
            assert dtypes.canonicalize(swapped) == jax.dtypes.canonicalize_dtype(dtype)
    assert dtypes.canonicalize(dtypes.key_fry) is dtypes.key_fry
    assert dtypes.canonicalize(dtypes.float0) == dtypes.float0


@pytest.mark.parametrize("spec", ["f4", np.float32, np.dtype("float32"), np.zeros(1, np.float32)])
def test_many_spellings_of_a_dtype(spec):
    assert dtypes.as_dtype(spec) == dtypes.float32


def test_python_types_stand_for_the_defaults(x64):
    assert dtypes.as_dtype(float) == dtypes.default_float() == jnp.zeros(1, float).dtype
    assert dtypes.as_dtype(int) == dtypes.default_int() == jnp.zeros(1, int).dtype
    assert dtypes.as_dtype(complex) == dtypes.default_complex() == jnp.zeros(1, complex).dtype
    assert dtypes.as_dtype(bool) == dtypes.bool_
    assert dtypes.default_uint() == jax_dtypes.default_uint_dtype()


@pytest.mark.parametrize("spec", ["float128", "datetime64[s]", object, str, "U3", "nonsense", None])
def test_other_dtypes_are_refused(spec):
    with pytest.raises(TypeError, match=r"numbers, booleans or PRNG keys|found None"):
        dtypes.as_dtype(spec)


def test_asking_for_64_bits_warns_once_for_each_line():
    with enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            assert dtypes.requested("float64", "zeros") == dtypes.float32
        dtypes.requested(np.int64)
        assert dtypes.requested(float) == dtypes.float32
        assert dtypes.requested("float32") == dtypes.float32
    assert len(caught) == 2
    message = str(caught[0].message)
    assert "float64 was asked for in zeros" in message
    assert "enable_x64" in message
    assert caught[0].filename == __file__
    with enable_x64(True):
        assert dtypes.requested("float64") == dtypes.float64


def test_short_names_round_trip():
    for dtype in [*ALL, dtypes.float0, dtypes.key_fry]:
        assert dtypes.from_short_name(dtypes.short_name(dtype)) == dtype
    expected = {"f32": "float32", "bf16": "bfloat16", "i32": "int32", "u8": "uint8", "bool": "bool"}
    for short, full in expected.items():
        assert dtypes.short_name(dtypes.as_dtype(full)) == short
    with pytest.raises(ValueError, match="f33"):
        dtypes.from_short_name("f33")


def test_kinds_agree_with_jax():
    for dtype in ALL:
        assert dtypes.is_bool(dtype) == jnp.issubdtype(dtype, np.bool_)
        assert dtypes.is_integer(dtype) == jnp.issubdtype(dtype, np.integer)
        assert dtypes.is_signed(dtype) == jnp.issubdtype(dtype, np.signedinteger)
        assert dtypes.is_unsigned(dtype) == jnp.issubdtype(dtype, np.unsignedinteger)
        assert dtypes.is_floating(dtype) == jnp.issubdtype(dtype, np.floating)
        assert dtypes.is_complex(dtype) == jnp.issubdtype(dtype, np.complexfloating)
        assert dtypes.is_inexact(dtype) == jnp.issubdtype(dtype, np.inexact)
        assert dtypes.is_numeric(dtype) == jnp.issubdtype(dtype, np.number)
    assert dtypes.is_key(dtypes.key_fry)
    assert not dtypes.is_numeric(dtypes.key_fry)


def test_subtypes_agree_with_jax():
    scalar_types = [dtype.type for dtype in ALL]
    for a in ALL + scalar_types + NAMES + PYTHON_TYPES:
        for b in KINDS + ALL + scalar_types + PYTHON_TYPES:
            assert dtypes.issubdtype(a, b) == jnp.issubdtype(a, b), (a, b)


def test_keys_have_a_kind_of_their_own():
    assert dtypes.issubdtype(dtypes.key_fry, dtypes.prng_key)
    assert dtypes.issubdtype(dtypes.key_fry, dtypes.extended)
    assert dtypes.issubdtype(dtypes.key_fry, dtypes.key_fry)
    assert dtypes.issubdtype(dtypes.key_fry, np.generic)
    assert not dtypes.issubdtype(dtypes.key_fry, np.number)
    assert not dtypes.issubdtype(np.float32, dtypes.prng_key)


def test_key_dtypes_are_unique():
    key = dtypes.KeyDType("fry")
    assert key is dtypes.key_fry
    assert (key.name, key.impl, key.words, key.itemsize) == ("key<fry>", "threefry2x32", 2, 8)
    assert pickle.loads(pickle.dumps(key)) is key  # noqa: S301 - our own bytes
    assert copy.deepcopy(key) is key
    assert dtypes.define_key_dtype("fry", "threefry2x32", 2) is key
    with pytest.raises(ValueError, match="belongs to threefry2x32"):
        dtypes.define_key_dtype("fry", "other", 4)
    with pytest.raises(ValueError, match="no PRNG is called 'nope'"):
        dtypes.KeyDType("nope")


def test_keys_promote_only_with_keys():
    key = (dtypes.key_fry, False)
    assert lattice_result([key, key]) == key
    with pytest.raises(TypePromotionError, match="no promotion"):
        lattice_result([key, (dtypes.float32, False)])


def test_derived_dtypes_agree_with_jax():
    for dtype in ALL:
        assert dtypes.to_inexact(dtype) == jax_dtypes.to_inexact_dtype(dtype)
        assert dtypes.to_numeric(dtype) == jax_dtypes.to_numeric_dtype(dtype)
        assert dtypes.complex_of(dtype) == jax_dtypes.to_complex_dtype(dtype)
        assert dtypes.real_of(dtype) == np.zeros((), dtype).real.dtype
        tangent = jax_core.primal_dtype_to_tangent_dtype(dtype)
        assert dtypes.tangent_dtype(dtype) == tangent
    assert dtypes.tangent_dtype(dtypes.key_fry) == dtypes.float0 == jax.dtypes.float0


def test_limits():
    for dtype in ALL:
        if dtypes.is_integer(dtype):
            assert dtypes.iinfo(dtype).max == np.iinfo(dtype).max
            with pytest.raises(ValueError, match="see iinfo"):
                dtypes.finfo(dtype)
        elif dtypes.is_inexact(dtype):
            limits, expected = dtypes.finfo(dtype), ml_dtypes.finfo(dtype)
            for name in ("bits", "eps", "max", "min", "tiny", "nmant", "smallest_subnormal"):
                assert getattr(limits, name) == getattr(expected, name)
            with pytest.raises(ValueError, match="see finfo"):
                dtypes.iinfo(dtype)
    assert dtypes.finfo(np.zeros(3, np.float32)).bits == 32
