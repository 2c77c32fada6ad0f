/* Executable: generated code as a callable object.
 *
 * Executable(entry, keepalive, inputs, results, *, dims=(), expressions=(), workspace_bytes=0,
 *            constants=(), callbacks=(), donate=(), error_handler=None, name='', release_gil=False)
 *
 * Sizes in shapes are as described for CvSpec. `dims` gives each run-time size: an int, or None if
 * it is to be read off the inputs. Expressions are polynomials in them: sequences of terms
 * (coefficient, (k, ...)), the product of the dims named. workspace_bytes may be -(k + 1) too. */
#include "executable.h"

#include <stddef.h>
#include <structmember.h>


/* ---- construction ---- */

/* A tuple of an optional argument's items: a new reference. */
static PyObject *
items_of(PyObject *sequence)
{
    return sequence == NULL ? PyTuple_New(0) : PySequence_Tuple(sequence);
}

static int
parse_dims(CvExecutable *self, PyObject *dims)
{
    PyObject *items = items_of(dims);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    self->dims = PyMem_Calloc((size_t)count + 1, sizeof(npy_intp));
    int failed = self->dims == NULL && PyErr_NoMemory() == NULL;
    for (Py_ssize_t k = 0; !failed && k < count; k++) {
        PyObject *item = PyTuple_GET_ITEM(items, k);
        if (Py_IsNone(item)) {
            self->dims[k] = -1;
            continue;
        }
        self->dims[k] = PyNumber_AsSsize_t(item, PyExc_OverflowError);
        failed = self->dims[k] < 0;
        if (failed && !PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a run-time size is not negative");
    }
    self->dim_count = failed ? 0 : count;
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
parse_term(const CvExecutable *self, Term *term, PyObject *item)
{
    PyObject *factors;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a term is a tuple (coefficient, (k, ...))");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "nO!;a term is (coefficient, (k, ...))", &term->coefficient,
                          &PyTuple_Type, &factors))
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(factors);
    term->factors = PyMem_Calloc((size_t)count + 1, sizeof(Py_ssize_t));
    if (term->factors == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (term->count = 0; term->count < count; term->count++) {
        Py_ssize_t k = PyNumber_AsSsize_t(PyTuple_GET_ITEM(factors, term->count), NULL);
        if (k < 0 || k >= self->dim_count) {
            if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "there is no run-time size %zd", k);
            return -1;
        }
        term->factors[term->count] = k;
    }
    return 0;
}

static int
parse_expression(const CvExecutable *self, Expression *expression, PyObject *item)
{
    PyObject *terms = PySequence_Tuple(item);
    if (terms == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(terms);
    expression->terms = PyMem_Calloc((size_t)count + 1, sizeof(Term));
    int failed = expression->terms == NULL && PyErr_NoMemory() == NULL;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        expression->count = i + 1;
        failed = parse_term(self, &expression->terms[i], PyTuple_GET_ITEM(terms, i)) < 0;
    }
    Py_DECREF(terms);
    return failed ? -1 : 0;
}

static int
parse_expressions(CvExecutable *self, PyObject *expressions)
{
    PyObject *items = items_of(expressions);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    self->expressions = PyMem_Calloc((size_t)count + 1, sizeof(Expression));
    int failed = self->expressions == NULL && PyErr_NoMemory() == NULL;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        self->expression_count = i + 1;
        failed = parse_expression(self, &self->expressions[i], PyTuple_GET_ITEM(items, i)) < 0;
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
parse_constants(CvExecutable *self, PyObject *constants)
{
    PyObject *items = items_of(constants);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    self->constants = PyTuple_New(count);
    self->constant_data = PyMem_Calloc((size_t)count + 1, sizeof(void *));
    int failed = self->constants == NULL || self->constant_data == NULL;
    if (failed && !PyErr_Occurred())
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        PyArrayObject *array = cv_normalise(PyTuple_GET_ITEM(items, i), false);
        PyArrayObject *plain =
            array == NULL ? NULL : cv_plain_layout(array, NPY_ARRAY_C_CONTIGUOUS);
        Py_XDECREF(array);
        failed = plain == NULL;
        if (!failed) {
            PyTuple_SET_ITEM(self->constants, i, (PyObject *)plain);
            self->constant_data[i] = PyArray_DATA(plain);
        }
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

/* An attribute of a callback's function: a new reference, NULL without an exception if it has none. */
static PyObject *
attribute(const CvCallback *callback, const char *name)
{
    PyObject *found = PyObject_GetAttrString(callback->function, name);
    if (found == NULL && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    return found;
}

static int
parse_gate(CvCallback *callback)
{
    callback->aborted = attribute(callback, "aborted");
    if (callback->aborted == NULL && PyErr_Occurred())
        return -1;
    PyObject *gate = attribute(callback, "gate");
    if (gate == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int failed = PyObject_GetBuffer(gate, &callback->gate, PyBUF_SIMPLE) < 0;
    Py_DECREF(gate);
    if (!failed && (callback->gate.len != sizeof(int64_t) || callback->results.count != 0)) {
        PyErr_SetString(PyExc_ValueError,
                        "a gate is an array of one int64, of a callback without results");
        failed = 1;
    }
    return failed ? -1 : 0;
}

static int
parse_callback(CvCallback *callback, PyObject *item)
{
    PyObject *function, *inputs, *results;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a callback is a tuple (function, inputs, results)");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "OOO;a callback is (function, inputs, results)", &function,
                          &inputs, &results))
        return -1;
    if (!PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError, "a callback must be callable, got %R", function);
        return -1;
    }
    callback->function = Py_NewRef(function);
    return cv_specs_parse(&callback->inputs, inputs, CV_INPUT) < 0 ||
                   cv_specs_parse(&callback->results, results, CV_RESULT) < 0
               ? -1
               : parse_gate(callback);
}

static int
parse_callbacks(CvExecutable *self, PyObject *callbacks)
{
    PyObject *items = items_of(callbacks);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    self->callbacks = PyMem_Calloc((size_t)count + 1, sizeof(CvCallback));
    int failed = self->callbacks == NULL && PyErr_NoMemory() == NULL;
    for (Py_ssize_t i = 0; !failed && i < count; i++) {
        self->callback_count = i + 1;
        failed = parse_callback(&self->callbacks[i], PyTuple_GET_ITEM(items, i)) < 0;
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
parse_donation(CvExecutable *self, PyObject *item)
{
    Py_ssize_t input, result;
    int holds = 0;
    PyObject *text = Py_None;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_TypeError, "a donation is a tuple (input, result, holds, text)");
        return -1;
    }
    if (!PyArg_ParseTuple(item, "nn|pO;a donation is (input, result, holds, text)", &input, &result,
                          &holds, &text))
        return -1;
    if (input < 0 || input >= self->inputs.count || result < -1 || result >= self->results.count) {
        PyErr_Format(PyExc_ValueError, "donation (%zd, %zd) is not of an input and a result", input,
                     result);
        return -1;
    }
    if (!Py_IsNone(text) && !PyUnicode_Check(text)) {
        PyErr_Format(PyExc_TypeError, "the text of a donation is a str, not %R", text);
        return -1;
    }
    Py_XSETREF(self->donated[input], Py_NewRef(text));
    if (result >= 0) {
        self->donors[result].input = input;
        self->donors[result].holds = holds;
    }
    return 0;
}

static int
parse_donations(CvExecutable *self, PyObject *donate)
{
    PyObject *items = items_of(donate);
    if (items == NULL)
        return -1;
    int failed = 0;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    if (count > 0) {
        self->donors = PyMem_Calloc((size_t)self->results.count + 1, sizeof *self->donors);
        self->donated = PyMem_Calloc((size_t)self->inputs.count + 1, sizeof(PyObject *));
        if (self->donors == NULL || self->donated == NULL) {
            PyErr_NoMemory();
            failed = 1;
        }
        for (Py_ssize_t i = 0; !failed && i < self->results.count; i++)
            self->donors[i].input = -1;
    }
    for (Py_ssize_t i = 0; !failed && i < count; i++)
        failed = parse_donation(self, PyTuple_GET_ITEM(items, i)) < 0;
    Py_DECREF(items);
    return failed ? -1 : 0;
}

/* Every run-time size in use must exist, and those not given be read off some input. */
static int
check_sizes(const CvExecutable *self)
{
    Py_ssize_t count = self->dim_count + self->expression_count;
    Py_ssize_t used = self->workspace_bytes < 0 ? -self->workspace_bytes : 0;
    const CvSpecs *specs[2] = {&self->inputs, &self->results};
    for (int i = 0; i < 2; i++)
        used = specs[i]->size_count > used ? specs[i]->size_count : used;
    for (Py_ssize_t i = 0; i < self->callback_count; i++) {
        const CvCallback *callback = &self->callbacks[i];
        used = callback->inputs.size_count > used ? callback->inputs.size_count : used;
        used = callback->results.size_count > used ? callback->results.size_count : used;
    }
    if (used > count) {
        PyErr_Format(PyExc_ValueError, "run-time size %zd is used, but there are only %zd",
                     used - 1, count);
        return -1;
    }
    for (Py_ssize_t k = 0; k < self->dim_count; k++) {
        bool known = self->dims[k] >= 0;
        for (Py_ssize_t i = 0; !known && i < self->inputs.count; i++)
            for (int axis = 0; axis < self->inputs.items[i].ndim; axis++)
                known |= self->inputs.items[i].shape[axis] == -(k + 1);
        if (!known) {
            PyErr_Format(PyExc_ValueError, "run-time size %zd is neither given nor in an input", k);
            return -1;
        }
    }
    return 0;
}

static PyObject *call_vector(CvExecutable *self, PyObject *const *args, size_t flags,
                             PyObject *names);

static int
parse_entry(CvExecutable *self, PyObject *entry, PyObject *handler)
{
    void *address = PyLong_AsVoidPtr(entry);
    if (address == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "an executable's entry is not at address 0");
        return -1;
    }
    self->entry = (cv_entry)(uintptr_t)address;
    if (handler == NULL || Py_IsNone(handler))
        return 0;
    if (!PyCallable_Check(handler)) {
        PyErr_Format(PyExc_TypeError, "error_handler must be callable, got %R", handler);
        return -1;
    }
    self->error_handler = Py_NewRef(handler);
    return 0;
}

static PyObject *
executable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"entry", "keepalive", "inputs", "results", "dims", "expressions",
                            "workspace_bytes", "constants", "callbacks", "donate",
                            "error_handler", "name", "release_gil", NULL};
    PyObject *entry, *keepalive, *inputs, *results, *handler = NULL, *name = NULL;
    PyObject *dims = NULL, *expressions = NULL, *constants = NULL, *callbacks = NULL;
    PyObject *donate = NULL;
    Py_ssize_t workspace = 0;
    int release = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|$OOnOOOOUp:Executable", names, &entry,
                                     &keepalive, &inputs, &results, &dims, &expressions,
                                     &workspace, &constants, &callbacks, &donate, &handler, &name,
                                     &release))
        return NULL;
    CvExecutable *self = (CvExecutable *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = (vectorcallfunc)call_vector;
    self->keepalive = Py_NewRef(keepalive);
    self->name = name == NULL ? PyUnicode_FromString("executable") : Py_NewRef(name);
    self->workspace_bytes = workspace;
    self->release = release;
    if (self->name == NULL || parse_entry(self, entry, handler) < 0 ||
        cv_specs_parse(&self->inputs, inputs, CV_INPUT) < 0 ||
        cv_specs_parse(&self->results, results, CV_RESULT) < 0 || parse_dims(self, dims) < 0 ||
        parse_expressions(self, expressions) < 0 || parse_constants(self, constants) < 0 ||
        parse_callbacks(self, callbacks) < 0 || parse_donations(self, donate) < 0 ||
        check_sizes(self) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->symbolic = self->dim_count + self->expression_count > 0;
    return (PyObject *)self;
}

/* ---- life ---- */

static int
executable_traverse(CvExecutable *self, visitproc visit, void *arg)
{
    Py_VISIT(self->keepalive);
    Py_VISIT(self->error_handler);
    for (Py_ssize_t i = 0; i < self->callback_count; i++) {
        Py_VISIT(self->callbacks[i].function);
        Py_VISIT(self->callbacks[i].aborted);
    }
    return cv_specs_traverse(&self->results, visit, arg);
}

/* Only what can be missing: a call during collection must still find code to run. */
static int
executable_clear(CvExecutable *self)
{
    Py_CLEAR(self->error_handler);
    return 0;
}

static void
free_expressions(CvExecutable *self)
{
    for (Py_ssize_t i = 0; i < self->expression_count; i++) {
        for (Py_ssize_t j = 0; j < self->expressions[i].count; j++)
            PyMem_Free(self->expressions[i].terms[j].factors);
        PyMem_Free(self->expressions[i].terms);
    }
    PyMem_Free(self->expressions);
}

static void
executable_dealloc(CvExecutable *self)
{
    PyObject_GC_UnTrack(self);
    for (Py_ssize_t i = 0; i < self->callback_count; i++) {
        Py_XDECREF(self->callbacks[i].function);
        Py_XDECREF(self->callbacks[i].aborted);
        if (self->callbacks[i].gate.obj != NULL)
            PyBuffer_Release(&self->callbacks[i].gate);
        cv_specs_free(&self->callbacks[i].inputs);
        cv_specs_free(&self->callbacks[i].results);
    }
    PyMem_Free(self->callbacks);
    for (int i = 0; i < FREE_WORKSPACES; i++)
        if (self->workspaces[i] != NULL)
            cv_block_release(self->workspaces[i]);
    free_expressions(self);
    for (Py_ssize_t i = 0; self->donated != NULL && i < self->inputs.count; i++)
        Py_XDECREF(self->donated[i]);
    PyMem_Free(self->donated);
    cv_specs_free(&self->inputs);
    cv_specs_free(&self->results);
    PyMem_Free(self->dims);
    PyMem_Free(self->constant_data);
    PyMem_Free(self->donors);
    Py_XDECREF(self->constants);
    Py_XDECREF(self->name);
    Py_XDECREF(self->error_handler);
    Py_XDECREF(self->keepalive);
    Py_TYPE(self)->tp_free(self);
}

/* ---- calling from Python ---- */

static PyObject *
call_leaves(CvExecutable *self, PyObject *const *objects, Py_ssize_t count)
{
    if (count != self->inputs.count) {
        PyErr_Format(PyExc_TypeError, "%U takes %zd arguments, got %zd", self->name,
                     self->inputs.count, count);
        return NULL;
    }
    CvLeaf *leaves = PyMem_Calloc((size_t)count + 1, sizeof(CvLeaf));
    PyObject **results = PyMem_Calloc((size_t)self->results.count + 1, sizeof(PyObject *));
    PyObject *list = NULL;
    if (leaves == NULL || results == NULL) {
        PyMem_Free(leaves);
        PyMem_Free(results);
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++)
        leaves[i] = cv_leaf(Py_NewRef(objects[i]));
    if (cv_executable_run(self, leaves, NULL, false, results) == 0)
        list = PyList_New(self->results.count);
    for (Py_ssize_t i = 0; i < self->results.count; i++) {
        if (list != NULL)
            PyList_SET_ITEM(list, i, results[i]);
        else
            Py_XDECREF(results[i]);
    }
    for (Py_ssize_t i = 0; i < count; i++)
        Py_DECREF(leaves[i].object);
    PyMem_Free(leaves);
    PyMem_Free(results);
    return list;
}

static PyObject *
call_vector(CvExecutable *self, PyObject *const *args, size_t flags, PyObject *names)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    if (names != NULL && PyTuple_GET_SIZE(names) > 0) {
        PyErr_Format(PyExc_TypeError, "%U takes no keyword arguments", self->name);
        return NULL;
    }
    if (count != 1 || !(PyList_CheckExact(args[0]) || PyTuple_CheckExact(args[0])))
        return call_leaves(self, args, count);
    PyObject *sequence = PySequence_Tuple(args[0]); /* a list may change while the code runs */
    if (sequence == NULL)
        return NULL;
    PyObject *results =
        call_leaves(self, PySequence_Fast_ITEMS(sequence), PyTuple_GET_SIZE(sequence));
    Py_DECREF(sequence);
    return results;
}

static PyMemberDef executable_members[] = {
    {"name", T_OBJECT, offsetof(CvExecutable, name), READONLY, NULL},
    {"keepalive", T_OBJECT, offsetof(CvExecutable, keepalive), READONLY, NULL},
    {"release_gil", T_BOOL, offsetof(CvExecutable, release), READONLY, NULL},
    {"input_count", T_PYSSIZET, offsetof(CvExecutable, inputs.count), READONLY, NULL},
    {"result_count", T_PYSSIZET, offsetof(CvExecutable, results.count), READONLY, NULL},
    {NULL},
};

static PyObject *
executable_repr(CvExecutable *self)
{
    return PyUnicode_FromFormat("<Executable %U: %zd inputs, %zd results>", self->name,
                                self->inputs.count, self->results.count);
}

PyTypeObject CvExecutable_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.Executable",
    .tp_basicsize = sizeof(CvExecutable),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = PyDoc_STR("Generated code as a callable: takes arrays (or one list of them), returns "
                        "the list of results."),
    .tp_new = executable_new,
    .tp_dealloc = (destructor)executable_dealloc,
    .tp_traverse = (traverseproc)executable_traverse,
    .tp_clear = (inquiry)executable_clear,
    .tp_vectorcall_offset = offsetof(CvExecutable, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_repr = (reprfunc)executable_repr,
    .tp_members = executable_members,
};
