/* Values given to a compiled function: what they are, and where their elements are. */
#include "covector.h"

CvLeaf
cv_leaf(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (CV_LIKELY(type == cv_array_class))
        return (CvLeaf){object, CV_LEAF_ARRAY};
    if (PyArray_CheckExact(object))
        return (CvLeaf){object, CV_LEAF_NDARRAY};
    if (type == &PyFloat_Type)
        return (CvLeaf){object, CV_LEAF_FLOAT};
    if (type == &PyLong_Type)
        return (CvLeaf){object, CV_LEAF_INT};
    if (type == &PyBool_Type)
        return (CvLeaf){object, CV_LEAF_BOOL};
    if (type == &PyComplex_Type)
        return (CvLeaf){object, CV_LEAF_COMPLEX};
    if (PyArray_IsScalar(object, Generic))
        return (CvLeaf){object, CV_LEAF_NUMPY_SCALAR};
    return (CvLeaf){object, cv_is_array(object) ? CV_LEAF_ARRAY : CV_LEAF_OTHER};
}

PyArrayObject *
cv_leaf_value(const CvLeaf *leaf)
{
    if (leaf->kind == CV_LEAF_ARRAY)
        return ((CvArray *)leaf->object)->value;
    return leaf->kind == CV_LEAF_NDARRAY ? (PyArrayObject *)leaf->object : NULL;
}

/* ---- Python scalars ---- */

static int
int_data(PyObject *object, int type_number, void *scratch)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow || (type_number == NPY_INT32 && (value > INT32_MAX || value < INT32_MIN))) {
        PyErr_Format(PyExc_OverflowError, "Python int %R does not fit %s", object,
                     type_number == NPY_INT32 ? "int32" : "int64");
        return -1;
    }
    if (type_number == NPY_INT32)
        *(int32_t *)scratch = (int32_t)value;
    else
        *(int64_t *)scratch = value;
    return 0;
}

/* A Python scalar as its canonical type of either width. 1 if the spec wants another type. */
static int
scalar_data(const CvLeaf *leaf, const CvSpec *spec, void *scratch)
{
    int type_number = spec->descr->type_num;
    if (spec->ndim != 0)
        return 1;
    if (leaf->kind == CV_LEAF_FLOAT) {
        double value = PyFloat_AS_DOUBLE(leaf->object);
        if (type_number == NPY_FLOAT32)
            *(float *)scratch = (float)value;
        else if (type_number == NPY_FLOAT64)
            *(double *)scratch = value;
        else
            return 1;
        return 0;
    }
    if (leaf->kind == CV_LEAF_INT) {
        bool is_int = PyTypeNum_ISSIGNED(type_number) && PyDataType_ELSIZE(spec->descr) >= 4;
        if (!is_int)
            return 1;
        return int_data(leaf->object,
                        PyDataType_ELSIZE(spec->descr) == 4 ? NPY_INT32 : NPY_INT64, scratch);
    }
    if (leaf->kind == CV_LEAF_BOOL) {
        *(npy_bool *)scratch = leaf->object == Py_True;
        return type_number != NPY_BOOL;
    }
    Py_complex value = PyComplex_AsCComplex(leaf->object);
    if (type_number == NPY_COMPLEX64) {
        ((float *)scratch)[0] = (float)value.real;
        ((float *)scratch)[1] = (float)value.imag;
    } else if (type_number == NPY_COMPLEX128) {
        ((double *)scratch)[0] = value.real;
        ((double *)scratch)[1] = value.imag;
    } else {
        return 1;
    }
    return 0;
}

/* ---- arrays ---- */

static bool
fits_shape(PyArrayObject *array, const CvSpec *spec)
{
    int ndim = PyArray_NDIM(array);
    const npy_intp *dims = PyArray_DIMS(array);
    if (ndim != spec->ndim)
        return false;
    for (int i = 0; i < ndim; i++)
        if (dims[i] != spec->shape[i] && spec->shape[i] >= 0)
            return false;
    return true;
}

#define NARROW(from, to)                                                                          \
    for (npy_intp i = 0; i < n; i++)                                                              \
        ((to *)out)[i] = (to)((const from *)in)[i];                                               \
    return true

/* 64-bit elements as the 32-bit type of the same kind, wrapping and rounding as C does: without
 * NumPy's warnings. False for other pairs of types. */
static bool
narrow_elements(int from, int to, const void *in, void *out, npy_intp n)
{
    if (PyTypeNum_ISSIGNED(from) && to == NPY_INT32) {
        NARROW(int64_t, int32_t);
    }
    if (PyTypeNum_ISUNSIGNED(from) && to == NPY_UINT32) {
        NARROW(uint64_t, uint32_t);
    }
    if (from == NPY_FLOAT64 && to == NPY_FLOAT32) {
        NARROW(double, float);
    }
    if (from == NPY_COMPLEX128 && to == NPY_COMPLEX64) {
        n *= 2;
        NARROW(double, float);
    }
    return false;
}

static int
narrowed(PyArrayObject *array, const CvSpec *spec, PyArrayObject **keep)
{
    npy_intp from = PyArray_ITEMSIZE(array), to = PyDataType_ELSIZE(spec->descr);
    if (from != 2 * to || PyTypeNum_ISBOOL(PyArray_TYPE(array)))
        return 1;
    PyArrayObject *plain = cv_plain_layout(array, NPY_ARRAY_C_CONTIGUOUS);
    if (plain == NULL)
        return -1;
    void *data;
    *keep = cv_new_ndarray(spec->descr, PyArray_NDIM(plain), PyArray_DIMS(plain), &data);
    int outcome = *keep == NULL ? -1 : 0;
    if (outcome == 0 && !narrow_elements(PyArray_TYPE(plain), spec->descr->type_num,
                                         PyArray_DATA(plain), data, PyArray_SIZE(plain))) {
        Py_CLEAR(*keep);
        outcome = 1;
    }
    Py_DECREF(plain);
    return outcome;
}

static int
array_data(PyArrayObject *array, const CvSpec *spec, bool narrow, void **data,
           PyArrayObject **keep)
{
    PyArray_Descr *descr = PyArray_DESCR(array);
    if (!fits_shape(array, spec))
        return 1;
    if (CV_LIKELY(descr == spec->descr || PyArray_EquivTypes(descr, spec->descr))) {
        *keep = PyArray_ISCARRAY_RO(array) ? (PyArrayObject *)Py_NewRef(array)
                                           : cv_plain_layout(array, NPY_ARRAY_C_CONTIGUOUS);
    } else if (descr->type_num == spec->descr->type_num) { /* of the other byte order */
        *keep = cv_plain_layout(array, NPY_ARRAY_C_CONTIGUOUS);
    } else {
        int outcome = narrow ? narrowed(array, spec, keep) : 1;
        if (outcome != 0)
            return outcome;
    }
    if (*keep == NULL)
        return -1;
    *data = PyArray_DATA(*keep);
    return 0;
}

int
cv_leaf_data(const CvLeaf *leaf, const CvSpec *spec, bool narrow, void *scratch, void **data,
             PyArrayObject **keep)
{
    *keep = NULL;
    if (leaf->kind == CV_LEAF_ARRAY) {
        if (cv_array_check_live((CvArray *)leaf->object) < 0)
            return -1;
        return array_data(cv_leaf_value(leaf), spec, false, data, keep);
    }
    if (leaf->kind == CV_LEAF_NDARRAY)
        return array_data(cv_leaf_value(leaf), spec, narrow, data, keep);
    if (leaf->kind == CV_LEAF_NUMPY_SCALAR) {
        PyArrayObject *array = (PyArrayObject *)PyArray_FromScalar(leaf->object, NULL);
        if (array == NULL)
            return -1;
        int outcome = array_data(array, spec, narrow, data, keep);
        Py_DECREF(array);
        return outcome;
    }
    if (leaf->kind == CV_LEAF_OTHER)
        return 1;
    *data = scratch;
    return scalar_data(leaf, spec, scratch);
}

PyObject *
cv_leaf_describe(const CvLeaf *leaf)
{
    PyArrayObject *value = cv_leaf_value(leaf);
    if (value == NULL)
        return PyUnicode_FromFormat("a value of type %.200s", Py_TYPE(leaf->object)->tp_name);
    return cv_describe(PyArray_DESCR(value), PyArray_NDIM(value), PyArray_DIMS(value));
}
