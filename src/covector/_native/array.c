/* ArrayBase: an immutable array over a read-only ndarray. */
#include "covector.h"

#include <stddef.h>
#include <structmember.h>

PyTypeObject *cv_array_class = &CvArray_Type;

static uint8_t
fast_kind(const CvArray *self)
{
    PyArrayObject *value = self->value;
    if (self->extended || self->deleted || !PyArray_IS_C_CONTIGUOUS(value))
        return CV_FAST_NONE;
    switch (PyArray_TYPE(value)) {
    case NPY_FLOAT32:
        return CV_FAST_F32;
    case NPY_FLOAT64:
        return CV_FAST_F64;
    case NPY_INT32:
        return CV_FAST_I32;
    case NPY_INT64:
        return CV_FAST_I64;
    case NPY_UINT32:
        return CV_FAST_U32;
    case NPY_UINT64:
        return CV_FAST_U64;
    default:
        return CV_FAST_NONE;
    }
}

/* ---- ndarrays ---- */

static int
attach(PyArrayObject *array, CvBuffer *buffer)
{
    return PyArray_SetBaseObject(array, Py_NewRef(buffer));
}

PyArrayObject *
cv_ndarray_over(CvBuffer *buffer, PyArray_Descr *descr, int ndim, const npy_intp *dims)
{
    Py_INCREF(descr);
    PyArrayObject *array = (PyArrayObject *)PyArray_NewFromDescr(
        &PyArray_Type, descr, ndim, dims, NULL, buffer->data, NPY_ARRAY_CARRAY_RO, NULL);
    if (array != NULL && attach(array, buffer) < 0)
        Py_CLEAR(array);
    return array;
}

PyArrayObject *
cv_new_ndarray(PyArray_Descr *descr, int ndim, const npy_intp *dims, void **data)
{
    npy_intp bytes = cv_checked_bytes(PyDataType_ELSIZE(descr), ndim, dims);
    if (bytes < 0)
        return NULL;
    CvBuffer *buffer = cv_buffer_new((size_t)bytes);
    if (buffer == NULL)
        return NULL;
    *data = buffer->data;
    PyArrayObject *array = cv_ndarray_over(buffer, descr, ndim, dims);
    Py_DECREF(buffer);
    return array;
}

PyArrayObject *
cv_plain_layout(PyArrayObject *array, int requirements)
{
    PyArray_Descr *native = NULL;
    if (PyArray_ISBYTESWAPPED(array)) {
        native = PyArray_DescrNewByteorder(PyArray_DESCR(array), NPY_NATIVE);
        if (native == NULL)
            return NULL;
    }
    return (PyArrayObject *)PyArray_FromArray(
        array, native, requirements | NPY_ARRAY_ALIGNED | NPY_ARRAY_ENSUREARRAY);
}

/* An array of exactly ndarray's type, aligned and of native byte order; copies only if need be. */
static PyArrayObject *
plain_ndarray(PyObject *value)
{
    PyArrayObject *array;
    if (PyArray_Check(value)) {
        array = (PyArrayObject *)Py_NewRef(value);
    } else if (PyArray_CheckScalar(value)) {
        array = (PyArrayObject *)PyArray_FromScalar(value, NULL);
        if (array == NULL)
            return NULL;
    } else {
        PyErr_Format(PyExc_TypeError, "an array holds a numpy.ndarray, got %.100s",
                     Py_TYPE(value)->tp_name);
        return NULL;
    }
    if (PyDataType_REFCHK(PyArray_DESCR(array))) {
        PyErr_Format(PyExc_TypeError, "arrays of dtype %R are not supported: its elements are "
                     "Python objects", PyArray_DESCR(array));
        Py_DECREF(array);
        return NULL;
    }
    PyArrayObject *plain = cv_plain_layout(array, 0);
    Py_DECREF(array);
    return plain;
}

PyArrayObject *
cv_normalise(PyObject *value, bool owned)
{
    PyArrayObject *array = plain_ndarray(value);
    if (array == NULL || !PyArray_ISWRITEABLE(array))
        return array;
    if (!owned && (PyObject *)array == value) {
        PyArrayObject *view = (PyArrayObject *)PyArray_View(array, NULL, &PyArray_Type);
        Py_DECREF(array);
        if (view == NULL)
            return NULL;
        array = view;
    }
    PyArray_CLEARFLAGS(array, NPY_ARRAY_WRITEABLE);
    return array;
}

/* ---- construction ---- */

static void
fill(CvArray *self, PyArrayObject *value, bool weak_type, uint8_t extended)
{
    self->value = value;
    self->aval = NULL;
    self->dtype = NULL;
    self->weakrefs = NULL;
    self->extended = extended;
    self->weak_type = weak_type;
    self->deleted = false;
    self->fast = fast_kind(self);
}

/* Without attributes of a subclass and without an aval (see set_aval) nothing can make a cycle: the
 * array need not be tracked by the collector. */
static CvArray *
allocate(PyTypeObject *class)
{
    if (CV_LIKELY(class->tp_basicsize == sizeof(CvArray) && class->tp_dictoffset == 0))
        return PyObject_GC_New(CvArray, class);
    return (CvArray *)class->tp_alloc(class, 0);
}

PyObject *
cv_wrap(PyArrayObject *value, bool weak_type)
{
    CvArray *self = allocate(cv_array_class);
    if (CV_LIKELY(self != NULL))
        fill(self, value, weak_type, 0);
    else
        Py_DECREF(value);
    return (PyObject *)self;
}

static int
set_aval(CvArray *self, PyObject *aval)
{
    self->aval = Py_NewRef(aval);
    if (PyObject_IS_GC(aval) && !PyObject_GC_IsTracked((PyObject *)self))
        PyObject_GC_Track(self);
    return 0;
}

/* The dtype of an extended array: a new reference, Py_None for ordinary ones. */
static PyObject *
extended_dtype(PyArrayObject *value, int extended, PyObject *aval)
{
    if (extended == 0)
        return Py_NewRef(Py_None);
    if (extended < 0 || extended > PyArray_NDIM(value)) {
        PyErr_Format(PyExc_ValueError, "extended=%d for a value of %d dimensions", extended,
                     PyArray_NDIM(value));
        return NULL;
    }
    if (Py_IsNone(aval)) {
        PyErr_SetString(PyExc_TypeError, "an array of an extended dtype needs its aval");
        return NULL;
    }
    return PyObject_GetAttrString(aval, "dtype");
}

static PyObject *
array_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", "weak_type", "owned", "aval", "extended", NULL};
    PyObject *value, *aval = Py_None;
    int weak_type = 0, owned = 0, extended = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p$pOi:ArrayBase", names, &value, &weak_type,
                                     &owned, &aval, &extended))
        return NULL;
    PyArrayObject *array = cv_normalise(value, owned);
    if (array == NULL)
        return NULL;
    PyObject *dtype = extended_dtype(array, extended, aval);
    CvArray *self = dtype == NULL ? NULL : (CvArray *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_XDECREF(dtype);
        Py_DECREF(array);
        return NULL;
    }
    fill(self, array, weak_type, (uint8_t)extended);
    if (extended)
        self->dtype = dtype;
    else
        Py_DECREF(dtype);
    if (!Py_IsNone(aval))
        set_aval(self, aval);
    return (PyObject *)self;
}

static int
array_traverse(CvArray *self, visitproc visit, void *arg)
{
    Py_VISIT(self->aval);
    Py_VISIT(self->dtype);
    Py_VISIT(self->value);
    return 0;
}

static int
array_clear(CvArray *self)
{
    Py_CLEAR(self->aval); /* neither value nor dtype: methods rely on them */
    return 0;
}

static void
array_dealloc(CvArray *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    Py_XDECREF(self->aval);
    Py_XDECREF(self->dtype);
    Py_XDECREF(self->value);
    Py_TYPE(self)->tp_free(self);
}

/* ---- deletion ---- */

int
cv_array_check_live(const CvArray *self)
{
    if (CV_LIKELY(!self->deleted))
        return 0;
    PyObject *why = PyTuple_GET_ITEM(PyArray_BASE(self->value), 1); /* see stand_in */
    PyObject *text = cv_describe(PyArray_DESCR(self->value), PyArray_NDIM(self->value),
                                 PyArray_DIMS(self->value));
    if (text != NULL && Py_IsNone(why))
        PyErr_Format(PyExc_RuntimeError, "Array has been deleted with shape=%U", text);
    else if (text != NULL)
        PyErr_Format(PyExc_RuntimeError, "Array has been deleted with shape=%U\n  found: %U", text,
                     why);
    Py_XDECREF(text);
    return -1;
}

/* The stand-in keeps shape and dtype over one element's memory, so that `value` stays valid. Its
 * base is that memory and the reason. */
static PyArrayObject *
stand_in(PyArrayObject *value, PyObject *why)
{
    PyArray_Descr *descr = PyArray_DESCR(value);
    CvBuffer *buffer = cv_buffer_new((size_t)PyDataType_ELSIZE(descr));
    if (buffer == NULL)
        return NULL;
    memset(buffer->data, 0, buffer->size);
    PyObject *base = PyTuple_Pack(2, buffer, why);
    npy_intp strides[NPY_MAXDIMS] = {0};
    PyArrayObject *found = NULL;
    if (base != NULL) {
        Py_INCREF(descr);
        found = (PyArrayObject *)PyArray_NewFromDescr(&PyArray_Type, descr, PyArray_NDIM(value),
                                                      PyArray_DIMS(value), strides, buffer->data,
                                                      NPY_ARRAY_ALIGNED, NULL);
    }
    if (found != NULL && PyArray_SetBaseObject(found, Py_NewRef(base)) < 0)
        Py_CLEAR(found);
    Py_XDECREF(base);
    Py_DECREF(buffer);
    return found;
}

int
cv_array_delete(CvArray *self, PyObject *why)
{
    if (self->deleted)
        return 0;
    PyArrayObject *value = stand_in(self->value, why);
    if (value == NULL)
        return -1;
    self->deleted = true;
    self->fast = CV_FAST_NONE;
    Py_SETREF(self->value, value);
    return 0;
}

static PyObject *
array_delete(CvArray *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *why = PyUnicode_FromString("its delete() was called");
    int failed = why == NULL || cv_array_delete(self, why) < 0;
    Py_XDECREF(why);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
array_donate(CvArray *self, PyObject *why)
{
    if (!PyUnicode_Check(why)) {
        PyErr_Format(PyExc_TypeError, "_donate takes a str, not %R", why);
        return NULL;
    }
    if (cv_array_delete(self, why) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
array_is_deleted(CvArray *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(self->deleted);
}

/* ---- attributes ---- */

static int
visible_ndim(const CvArray *self)
{
    return PyArray_NDIM(self->value) - self->extended;
}

static PyObject *
get_shape(CvArray *self, void *Py_UNUSED(closure))
{
    int ndim = visible_ndim(self);
    const npy_intp *dims = PyArray_DIMS(self->value);
    PyObject *shape = PyTuple_New(ndim);
    for (int i = 0; shape != NULL && i < ndim; i++) {
        PyObject *size = PyLong_FromSsize_t(dims[i]);
        if (size == NULL)
            Py_CLEAR(shape);
        else
            PyTuple_SET_ITEM(shape, i, size);
    }
    return shape;
}

static PyObject *
get_dtype(CvArray *self, void *Py_UNUSED(closure))
{
    if (CV_UNLIKELY(self->dtype != NULL))
        return Py_NewRef(self->dtype);
    return Py_NewRef(PyArray_DESCR(self->value));
}

static PyObject *
get_ndim(CvArray *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(visible_ndim(self));
}

static PyObject *
get_size(CvArray *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(
        PyArray_MultiplyList(PyArray_DIMS(self->value), visible_ndim(self)));
}

static PyObject *
get_nbytes(CvArray *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(PyArray_NBYTES(self->value));
}

static PyObject *
get_value(CvArray *self, void *Py_UNUSED(closure))
{
    return cv_array_check_live(self) < 0 ? NULL : Py_NewRef(self->value);
}

static PyObject *
get_aval(CvArray *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->aval == NULL ? Py_None : self->aval);
}

static int
put_aval(CvArray *self, PyObject *aval, void *Py_UNUSED(closure))
{
    if (aval == NULL || Py_IsNone(aval)) {
        PyErr_SetString(PyExc_AttributeError, "an array's aval cannot be removed");
        return -1;
    }
    if (self->aval == aval)
        return 0;
    if (self->aval != NULL) {
        PyErr_SetString(PyExc_AttributeError, "an array's aval is set once");
        return -1;
    }
    return set_aval(self, aval);
}

static PyObject *
get_priority(CvArray *Py_UNUSED(self), void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(100.0); /* ndarray operators leave mixed operands to us */
}

static PyGetSetDef array_getset[] = {
    {"shape", (getter)get_shape, NULL, PyDoc_STR("The sizes of the dimensions."), NULL},
    {"dtype", (getter)get_dtype, NULL, PyDoc_STR("The type of the elements."), NULL},
    {"ndim", (getter)get_ndim, NULL, PyDoc_STR("The number of dimensions."), NULL},
    {"size", (getter)get_size, NULL, PyDoc_STR("The number of elements."), NULL},
    {"nbytes", (getter)get_nbytes, NULL, PyDoc_STR("The number of bytes of all elements."), NULL},
    {"_value", (getter)get_value, NULL, PyDoc_STR("The read-only ndarray."), NULL},
    {"_aval", (getter)get_aval, (setter)put_aval,
     PyDoc_STR("The abstract value, None until it is set (once)."), NULL},
    {"__array_priority__", (getter)get_priority, NULL, NULL, NULL},
    {NULL},
};

static PyMemberDef array_members[] = {
    {"weak_type", T_BOOL, offsetof(CvArray, weak_type), READONLY,
     PyDoc_STR("Whether the dtype gives way to the other operand's.")},
    {"_extended", T_UBYTE, offsetof(CvArray, extended), READONLY,
     PyDoc_STR("How many trailing dimensions of the value make one element.")},
    {NULL},
};

static PyMethodDef array_type_methods[] = {
    {"delete", (PyCFunction)array_delete, METH_NOARGS,
     PyDoc_STR("delete()\n\nLet the memory go; any use of the elements is an error from now on.")},
    {"_donate", (PyCFunction)array_donate, METH_O,
     PyDoc_STR("_donate(why)\n\nThe same, for a reason which the error names.")},
    {"is_deleted", (PyCFunction)array_is_deleted, METH_NOARGS,
     PyDoc_STR("is_deleted() -> bool\n\nWhether the array was donated or deleted.")},
    {NULL},
};

static int
array_getbuffer(CvArray *self, Py_buffer *view, int flags)
{
    view->obj = NULL;
    if (cv_array_check_live(self) < 0)
        return -1;
    if (self->extended) {
        PyErr_SetString(PyExc_BufferError, "arrays of an extended dtype have no buffer");
        return -1;
    }
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "arrays are immutable");
        return -1;
    }
    return PyObject_GetBuffer((PyObject *)self->value, view, flags);
}

static PyBufferProcs array_buffer = {(getbufferproc)array_getbuffer, NULL};

PyTypeObject CvArray_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.ArrayBase",
    .tp_basicsize = sizeof(CvArray),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_doc = PyDoc_STR("ArrayBase(value, weak_type=False, *, owned=False, aval=None, "
                        "extended=0)\n--\n\nAn immutable array over a NumPy array."),
    .tp_new = array_new,
    .tp_dealloc = (destructor)array_dealloc,
    .tp_traverse = (traverseproc)array_traverse,
    .tp_clear = (inquiry)array_clear,
    .tp_weaklistoffset = offsetof(CvArray, weakrefs),
    .tp_hash = PyObject_HashNotImplemented,
    .tp_richcompare = cv_richcompare,
    .tp_as_number = &cv_number_methods,
    .tp_as_buffer = &array_buffer,
    .tp_getset = array_getset,
    .tp_members = array_members,
    .tp_methods = array_type_methods,
};

/* ---- module functions ---- */

static PyObject *
register_array_class(PyObject *Py_UNUSED(module), PyObject *class)
{
    if (!PyType_Check(class) || !PyType_IsSubtype((PyTypeObject *)class, &CvArray_Type)) {
        PyErr_SetString(PyExc_TypeError, "register_array_class() needs a subclass of ArrayBase");
        return NULL;
    }
    static bool owned; /* the initial class is static: there is no reference to give away */
    PyTypeObject *previous = cv_array_class;
    cv_array_class = (PyTypeObject *)Py_NewRef(class);
    if (!owned)
        Py_INCREF(previous);
    owned = true;
    return (PyObject *)previous;
}

static PyObject *
new_array(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 3) {
        PyErr_Format(PyExc_TypeError, "new_array() takes 1 to 3 arguments, got %zd", count);
        return NULL;
    }
    int weak_type = count > 1 ? PyObject_IsTrue(args[1]) : 0;
    int owned = count > 2 ? PyObject_IsTrue(args[2]) : 0;
    if (weak_type < 0 || owned < 0)
        return NULL;
    PyArrayObject *value = cv_normalise(args[0], owned);
    return value == NULL ? NULL : cv_wrap(value, weak_type);
}

PyMethodDef cv_array_methods[] = {
    {"register_array_class", register_array_class, METH_O,
     PyDoc_STR("register_array_class(cls) -> type\n\nThe subclass of ArrayBase that results get "
               "from now on. Returns the previous one.")},
    {"new_array", (PyCFunction)(void (*)(void))new_array, METH_FASTCALL,
     PyDoc_STR("new_array(value, weak_type=False, owned=False) -> ArrayBase\n\nAn instance of the "
               "registered class over an ndarray or NumPy scalar. Unless `owned`, a writable "
               "ndarray stays writable by its owner; the array sees a read-only view.")},
    {NULL},
};

int
cv_array_init(PyObject *Py_UNUSED(module))
{
    return PyType_Ready(&CvArray_Type);
}
