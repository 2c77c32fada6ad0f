/* Where the user's code is: the innermost Python frame that is not Covector's own. */
#include "covector.h"

/* Verdicts are cached by the file name's object, which all code objects of a file share. The table
 * owns its names, so that an address cannot come back as another name; it is direct-mapped, so
 * that programs making file names without end replace entries instead of adding them. */
enum { TABLE_SIZE = 512 };

typedef struct {
    PyObject *filename;
    int internal;
} Verdict;

static Verdict verdicts[TABLE_SIZE];
static PyObject *prefixes; /* list of str */

static int
starts_with_prefix(PyObject *filename)
{
    Py_ssize_t count = prefixes == NULL ? 0 : PyList_GET_SIZE(prefixes);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *prefix = PyList_GET_ITEM(prefixes, i);
        Py_ssize_t matches = PyUnicode_Tailmatch(filename, prefix, 0, PY_SSIZE_T_MAX, -1);
        if (matches != 0)
            return (int)matches; /* 1, or -1 with an exception */
    }
    return 0;
}

static int
is_internal(PyObject *filename)
{
    uintptr_t address = (uintptr_t)filename;
    Verdict *verdict = &verdicts[((address >> 4) ^ (address >> 13)) % TABLE_SIZE];
    if (CV_LIKELY(verdict->filename == filename))
        return verdict->internal;
    int internal = starts_with_prefix(filename);
    if (internal >= 0) {
        verdict->internal = internal;
        Py_XSETREF(verdict->filename, Py_NewRef(filename));
    }
    return internal;
}

static PyObject *
describe(PyFrameObject *frame, PyCodeObject *code)
{
    PyObject *lasti = PyLong_FromLong(PyFrame_GetLasti(frame));
    if (lasti == NULL)
        return NULL;
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(lasti);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, Py_NewRef(code));
    PyTuple_SET_ITEM(pair, 1, lasti);
    return pair;
}

static PyObject *
find_frame(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed */
    Py_XINCREF(frame);
    while (frame != NULL) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        int internal = is_internal(code->co_filename);
        if (internal <= 0) {
            PyObject *result = internal < 0 ? NULL : describe(frame, code);
            Py_DECREF(code);
            Py_DECREF(frame);
            return result;
        }
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
register_internal_prefix(PyObject *Py_UNUSED(module), PyObject *prefix)
{
    if (!PyUnicode_Check(prefix)) {
        PyErr_Format(PyExc_TypeError, "register_internal_prefix() needs a str, got %.100s",
                     Py_TYPE(prefix)->tp_name);
        return NULL;
    }
    if (prefixes == NULL && (prefixes = PyList_New(0)) == NULL)
        return NULL;
    if (PyList_Append(prefixes, prefix) < 0)
        return NULL;
    for (int i = 0; i < TABLE_SIZE; i++)
        Py_CLEAR(verdicts[i].filename);
    Py_RETURN_NONE;
}

PyMethodDef cv_source_methods[] = {
    {"register_internal_prefix", register_internal_prefix, METH_O,
     PyDoc_STR("register_internal_prefix(path)\n\nFiles whose names start with `path` are "
               "Covector's own, not the user's.")},
    {"find_frame", find_frame, METH_NOARGS,
     PyDoc_STR("find_frame() -> tuple[CodeType, int] | None\n\nThe code and the instruction offset "
               "(in bytes) of the innermost frame of the user's code.")},
    {NULL},
};
