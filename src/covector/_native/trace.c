/* The state of a thread: the current trace, and the configuration which programs depend on.
 *
 * The trace is an owned reference. The thread's dictionary (which the interpreter clears with the
 * lock held when the thread state goes) owns a holder object; a thread-local pointer to the holder
 * makes reading cheap. A holder which dies clears the pointer of the thread it dies on, which is
 * its own thread's, or else that thread never runs Python again. */
#include "covector.h"

typedef struct {
    PyObject_HEAD
    PyObject *trace; /* NULL = eager evaluation */
} Holder;

static _Thread_local Holder *thread_holder;
static _Thread_local int64_t thread_config;
static _Thread_local int8_t thread_x64 = -1; /* -1: as the process */
static int64_t config_epoch;
static bool process_x64;
static PyObject *holder_key;

static int
holder_traverse(Holder *self, visitproc visit, void *arg)
{
    Py_VISIT(self->trace);
    return 0;
}

static int
holder_clear(Holder *self)
{
    Py_CLEAR(self->trace);
    return 0;
}

static void
holder_dealloc(Holder *self)
{
    PyObject_GC_UnTrack(self);
    if (thread_holder == self)
        thread_holder = NULL;
    Py_CLEAR(self->trace);
    PyObject_GC_Del(self);
}

static PyTypeObject Holder_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.TraceHolder",
    .tp_basicsize = sizeof(Holder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_traverse = (traverseproc)holder_traverse,
    .tp_clear = (inquiry)holder_clear,
    .tp_dealloc = (destructor)holder_dealloc,
    .tp_doc = PyDoc_STR("Owns the current trace of one thread."),
};

static Holder *
make_holder(void)
{
    PyObject *dict = PyThreadState_GetDict();
    if (dict == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this thread has no Python state to keep a trace in");
        return NULL;
    }
    Holder *holder = PyObject_GC_New(Holder, &Holder_Type);
    if (holder == NULL)
        return NULL;
    holder->trace = NULL;
    PyObject_GC_Track(holder);
    int failed = PyDict_SetItem(dict, holder_key, (PyObject *)holder);
    Py_DECREF(holder); /* the dictionary has it now */
    if (failed)
        return NULL;
    thread_holder = holder;
    return holder;
}

PyObject *
cv_current_trace(void)
{
    Holder *holder = thread_holder;
    return holder == NULL ? NULL : holder->trace;
}

cv_config
cv_current_config(void)
{
    int8_t x64 = thread_x64;
    return (cv_config){config_epoch, thread_config, x64 < 0 ? process_x64 : x64 != 0};
}

static PyObject *
get_trace(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *trace = cv_current_trace();
    return Py_NewRef(trace == NULL ? Py_None : trace);
}

static PyObject *
set_trace(PyObject *Py_UNUSED(module), PyObject *trace)
{
    Holder *holder = thread_holder;
    if (holder == NULL) {
        if (Py_IsNone(trace))
            Py_RETURN_NONE;
        holder = make_holder();
        if (holder == NULL)
            return NULL;
    }
    PyObject *previous = holder->trace;
    holder->trace = Py_IsNone(trace) ? NULL : Py_NewRef(trace);
    return previous == NULL ? Py_NewRef(Py_None) : previous;
}

static PyObject *
set_config_epoch(PyObject *Py_UNUSED(module), PyObject *value)
{
    long long epoch = PyLong_AsLongLong(value);
    if (epoch == -1 && PyErr_Occurred())
        return NULL;
    long long previous = config_epoch;
    config_epoch = epoch;
    return PyLong_FromLongLong(previous);
}

static PyObject *
set_thread_config(PyObject *Py_UNUSED(module), PyObject *value)
{
    long long config = PyLong_AsLongLong(value);
    if (config == -1 && PyErr_Occurred())
        return NULL;
    long long previous = thread_config;
    thread_config = config;
    return PyLong_FromLongLong(previous);
}

static PyObject *
set_x64(PyObject *Py_UNUSED(module), PyObject *value)
{
    int enabled = PyObject_IsTrue(value);
    if (enabled < 0)
        return NULL;
    process_x64 = enabled;
    Py_RETURN_NONE;
}

static PyObject *
set_thread_x64(PyObject *Py_UNUSED(module), PyObject *value)
{
    int enabled = Py_IsNone(value) ? -1 : PyObject_IsTrue(value);
    if (enabled < 0 && PyErr_Occurred())
        return NULL;
    int8_t previous = thread_x64;
    thread_x64 = (int8_t)enabled;
    return previous < 0 ? Py_NewRef(Py_None) : PyBool_FromLong(previous);
}

static PyObject *
get_x64(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(cv_current_config().x64);
}

PyMethodDef cv_trace_methods[] = {
    {"get_trace", get_trace, METH_NOARGS,
     PyDoc_STR("get_trace() -> object | None\n\nThe thread's current trace; None means eager.")},
    {"set_trace", set_trace, METH_O,
     PyDoc_STR("set_trace(trace) -> object | None\n\nSet the thread's trace, return the old one.")},
    {"set_config_epoch", set_config_epoch, METH_O,
     PyDoc_STR("set_config_epoch(epoch) -> int\n\nA number that is part of every dispatch key; "
               "change it whenever the process-wide configuration changes. Returns the previous "
               "one.")},
    {"set_thread_config", set_thread_config, METH_O,
     PyDoc_STR("set_thread_config(value) -> int\n\nThe same for this thread's configuration.")},
    {"set_x64", set_x64, METH_O,
     PyDoc_STR("set_x64(enabled)\n\nWhether 64-bit types are on, for the whole process.")},
    {"set_thread_x64", set_thread_x64, METH_O,
     PyDoc_STR("set_thread_x64(enabled) -> bool | None\n\nOverride for this thread; None removes "
               "it. Returns the previous override.")},
    {"get_x64", get_x64, METH_NOARGS,
     PyDoc_STR("get_x64() -> bool\n\nWhether 64-bit types are on in this thread.")},
    {NULL},
};

int
cv_trace_init(PyObject *Py_UNUSED(module))
{
    if (holder_key == NULL) {
        holder_key = PyUnicode_InternFromString("covector._native.trace");
        if (holder_key == NULL)
            return -1;
    }
    return PyType_Ready(&Holder_Type);
}
