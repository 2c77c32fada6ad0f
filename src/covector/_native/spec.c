/* Specifications of inputs and results, as Python gives them:
 *
 *     input   (shape, dtype) or (shape, dtype, name)
 *     result  (shape, dtype, weak_type) or (shape, dtype, weak_type, wrapper)
 */
#include "covector.h"

/* Number of bytes, or -1 with an exception if it does not fit. */
npy_intp
cv_checked_bytes(npy_intp itemsize, int ndim, const npy_intp *dims)
{
    npy_intp bytes = itemsize;
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        if (dims[i] == 0) {
            empty = true;
        } else if (dims[i] < 0 || bytes > NPY_MAX_INTP / dims[i]) {
            PyErr_SetString(PyExc_ValueError, "the array's size does not fit an address");
            return -1;
        } else {
            bytes *= dims[i];
        }
    }
    return empty ? 0 : bytes;
}

bool
cv_same_dtype(PyArray_Descr *a, PyArray_Descr *b)
{
    return a == b || PyArray_EquivTypes(a, b);
}

/* ---- parsing ---- */

static int
parse_shape(CvSpec *spec, PyObject *shape, Py_ssize_t *size_count)
{
    PyObject *sizes = PySequence_Fast(shape, "a shape is a sequence of int");
    if (sizes == NULL)
        return -1;
    Py_ssize_t ndim = PySequence_Fast_GET_SIZE(sizes);
    int failed = ndim > NPY_MAXDIMS;
    if (failed)
        PyErr_Format(PyExc_ValueError, "arrays have at most %d dimensions, got %zd", NPY_MAXDIMS,
                     ndim);
    else if ((spec->shape = PyMem_Calloc((size_t)ndim + 1, sizeof(npy_intp))) == NULL)
        failed = PyErr_NoMemory() == NULL;
    bool fixed = true;
    for (Py_ssize_t i = 0; !failed && i < ndim; i++) {
        npy_intp size = PyNumber_AsSsize_t(PySequence_Fast_GET_ITEM(sizes, i), PyExc_OverflowError);
        failed = size == -1 && PyErr_Occurred() != NULL;
        spec->shape[i] = size;
        if (size < 0) {
            fixed = false;
            if (-size > *size_count)
                *size_count = -size;
        }
    }
    Py_DECREF(sizes);
    if (failed)
        return -1;
    spec->ndim = (int)ndim;
    spec->bytes = -1;
    if (fixed) {
        spec->bytes = cv_checked_bytes(PyDataType_ELSIZE(spec->descr), spec->ndim, spec->shape);
        return spec->bytes < 0 ? -1 : 0;
    }
    return 0;
}

static int
parse_dtype(CvSpec *spec, PyObject *dtype)
{
    if (!PyArray_DescrConverter(dtype, &spec->descr))
        return -1;
    if (PyDataType_REFCHK(spec->descr) || PyDataType_HASFIELDS(spec->descr) ||
        PyDataType_HASSUBARRAY(spec->descr)) {
        PyErr_Format(PyExc_TypeError, "dtype %R cannot be passed to compiled code", spec->descr);
        return -1;
    }
    if (PyDataType_ISBYTESWAPPED(spec->descr))
        Py_SETREF(spec->descr, PyArray_DescrNewByteorder(spec->descr, NPY_NATIVE));
    return spec->descr == NULL ? -1 : 0;
}

static int
parse_options(CvSpec *spec, PyObject *fields, enum cv_spec_role role)
{
    Py_ssize_t count = PyTuple_GET_SIZE(fields);
    if (role == CV_INPUT) {
        if (count > 2 && !Py_IsNone(PyTuple_GET_ITEM(fields, 2)))
            spec->name = PyObject_Str(PyTuple_GET_ITEM(fields, 2));
        return PyErr_Occurred() ? -1 : 0;
    }
    int weak_type = PyObject_IsTrue(PyTuple_GET_ITEM(fields, 2));
    if (weak_type < 0)
        return -1;
    spec->weak_type = weak_type;
    if (count > 3 && !Py_IsNone(PyTuple_GET_ITEM(fields, 3))) {
        PyObject *wrapper = PyTuple_GET_ITEM(fields, 3);
        if (!PyCallable_Check(wrapper)) {
            PyErr_Format(PyExc_TypeError, "a result's wrapper must be callable, got %R", wrapper);
            return -1;
        }
        spec->wrapper = Py_NewRef(wrapper);
    }
    return 0;
}

static int
parse_spec(CvSpec *spec, PyObject *item, enum cv_spec_role role, Py_ssize_t *size_count)
{
    PyObject *fields = PySequence_Tuple(item);
    if (fields == NULL)
        return -1;
    Py_ssize_t minimum = role == CV_INPUT ? 2 : 3, count = PyTuple_GET_SIZE(fields);
    int failed = count < minimum || count > minimum + 1;
    if (failed)
        PyErr_SetString(PyExc_ValueError,
                        role == CV_INPUT
                            ? "an input is (shape, dtype) or (shape, dtype, name)"
                            : "a result is (shape, dtype, weak_type[, wrapper])");
    failed = failed || parse_dtype(spec, PyTuple_GET_ITEM(fields, 1)) < 0 ||
             parse_shape(spec, PyTuple_GET_ITEM(fields, 0), size_count) < 0 ||
             parse_options(spec, fields, role) < 0;
    Py_DECREF(fields);
    return failed ? -1 : 0;
}

int
cv_specs_parse(CvSpecs *specs, PyObject *sequence, enum cv_spec_role role)
{
    PyObject *items = PySequence_Fast(sequence, "specifications come in a sequence");
    if (items == NULL)
        return -1;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(items);
    specs->items = PyMem_Calloc((size_t)count + 1, sizeof(CvSpec));
    int failed = specs->items == NULL;
    if (failed)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        specs->count = i + 1; /* so that a half-made one is freed too */
        failed = i >= PySequence_Fast_GET_SIZE(items) ||
                 parse_spec(&specs->items[i], PySequence_Fast_GET_ITEM(items, i), role,
                            &specs->size_count) < 0;
    }
    Py_DECREF(items);
    if (failed && !PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "the specifications changed while they were read");
    return failed ? -1 : 0;
}

void
cv_specs_free(CvSpecs *specs)
{
    for (Py_ssize_t i = 0; i < specs->count; i++) {
        CvSpec *spec = &specs->items[i];
        Py_CLEAR(spec->descr);
        Py_CLEAR(spec->name);
        Py_CLEAR(spec->wrapper);
        PyMem_Free(spec->shape);
    }
    PyMem_Free(specs->items);
    *specs = (CvSpecs){0};
}

int
cv_specs_traverse(const CvSpecs *specs, visitproc visit, void *arg)
{
    for (Py_ssize_t i = 0; i < specs->count; i++)
        Py_VISIT(specs->items[i].wrapper);
    return 0;
}

/* ---- use ---- */

const npy_intp *
cv_resolve(const CvSpec *spec, const npy_intp *sizes, npy_intp *room)
{
    if (CV_LIKELY(spec->bytes >= 0))
        return spec->shape;
    for (int i = 0; i < spec->ndim; i++)
        room[i] = spec->shape[i] < 0 ? sizes[-spec->shape[i] - 1] : spec->shape[i];
    return room;
}

PyObject *
cv_describe(PyArray_Descr *descr, int ndim, const npy_intp *shape)
{
    PyObject *text = PyUnicode_FromFormat("%S[", descr);
    for (int i = 0; text != NULL && i < ndim; i++) {
        const char *comma = i + 1 < ndim ? "," : "";
        PyObject *longer =
            shape[i] >= 0 ? PyUnicode_FromFormat("%U%zd%s", text, shape[i], comma)
                          : PyUnicode_FromFormat("%Un%zd%s", text, -shape[i] - 1, comma);
        Py_SETREF(text, longer);
    }
    if (text != NULL)
        Py_SETREF(text, PyUnicode_FromFormat("%U]", text));
    return text;
}
