/* Dispatcher: what jit returns. Calls whose arguments have a known signature run here; the others
 * go to a Python function, which compiles and inserts what it compiled. */
#include "covector.h"

#include <stddef.h>
#include <structmember.h>

typedef struct {
    Py_ssize_t users; /* the table, and calls which are running it */
    uint64_t hash;
    size_t word_count;
    Py_ssize_t reference_count, kept_count;
    uint64_t *words;
    PyObject **references;
    Py_ssize_t *kept; /* which leaves the executable takes; NULL: all */
    CvExecutable *executable;
    CvTree tree;
} Entry;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *fallback;
    CvStatic statics;
    PyObject *dict;
    PyObject *weakrefs;
    Entry **slots; /* open addressing, at most half full; a power of two, or 0 of them */
    size_t slot_count, size, limit;
    uint64_t version; /* changes whenever the table does */
    Py_ssize_t hits, misses;
} Dispatcher;

/* ---- entries ---- */

static void
release_entry(Entry *entry)
{
    if (--entry->users > 0)
        return;
    for (Py_ssize_t i = 0; i < entry->reference_count; i++)
        Py_DECREF(entry->references[i]);
    PyMem_Free(entry->words);
    PyMem_Free(entry->references);
    PyMem_Free(entry->kept);
    Py_XDECREF(entry->executable);
    cv_tree_free(&entry->tree);
    PyMem_Free(entry);
}

static void *
copy_of(const void *source, size_t bytes)
{
    void *copy = PyMem_Malloc(bytes + 1);
    if (copy == NULL)
        return PyErr_NoMemory();
    return memcpy(copy, source, bytes);
}

static int
read_kept(Entry *entry, PyObject *kept, Py_ssize_t leaf_count)
{
    Py_ssize_t needed = cv_executable_inputs(entry->executable), count = leaf_count;
    if (!Py_IsNone(kept)) {
        PyObject *items = PySequence_Tuple(kept);
        if (items == NULL)
            return -1;
        count = PyTuple_GET_SIZE(items);
        entry->kept = PyMem_Calloc((size_t)count + 1, sizeof(Py_ssize_t));
        int failed = entry->kept == NULL && PyErr_NoMemory() == NULL;
        for (Py_ssize_t i = 0; !failed && i < count; i++) {
            Py_ssize_t index = PyNumber_AsSsize_t(PyTuple_GET_ITEM(items, i), NULL);
            entry->kept[i] = index;
            failed = index < 0 || index >= leaf_count;
            if (failed && !PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "kept leaf %zd is not among %zd", index, leaf_count);
        }
        Py_DECREF(items);
        if (failed)
            return -1;
    }
    if (count == needed)
        return 0;
    PyErr_Format(PyExc_ValueError, "the executable takes %zd leaves, not %zd", needed, count);
    return -1;
}

static Entry *
make_entry(const CvSignature *signature, PyObject *executable, PyObject *tree, PyObject *kept)
{
    Entry *entry = PyMem_Calloc(1, sizeof(Entry));
    if (entry == NULL)
        return (Entry *)PyErr_NoMemory();
    entry->users = 1;
    entry->hash = signature->hash;
    entry->word_count = signature->word_count;
    entry->executable = (CvExecutable *)Py_NewRef(executable);
    size_t references = (size_t)signature->reference_count * sizeof(PyObject *);
    entry->words = copy_of(signature->words, signature->word_count * sizeof(uint64_t));
    entry->references = copy_of(signature->references, references);
    if (entry->words == NULL || entry->references == NULL)
        goto failed;
    for (; entry->reference_count < signature->reference_count; entry->reference_count++)
        Py_INCREF(entry->references[entry->reference_count]);
    if (read_kept(entry, kept, signature->leaf_count) < 0 ||
        cv_tree_parse(&entry->tree, tree, cv_executable_results(entry->executable)) < 0)
        goto failed;
    return entry;
failed:
    release_entry(entry);
    return NULL;
}

/* ---- the table ---- */

/* 1 equal, 0 not, -1 with an exception. May run Python code (__eq__ of static arguments). */
static int
same_references(const Entry *entry, const CvSignature *signature)
{
    for (Py_ssize_t i = 0; i < entry->reference_count; i++) {
        PyObject *a = entry->references[i], *b = signature->references[i];
        if (a == b)
            continue;
        if (Py_TYPE(a) != Py_TYPE(b))
            return 0;
        int equal = PyObject_RichCompareBool(a, b, Py_EQ);
        if (equal != 1)
            return equal;
    }
    return 1;
}

static bool
same_words(const Entry *entry, const CvSignature *signature)
{
    return entry->hash == signature->hash && entry->word_count == signature->word_count &&
           entry->reference_count == signature->reference_count &&
           memcmp(entry->words, signature->words, entry->word_count * sizeof(uint64_t)) == 0;
}

/* Finds a slot's number, or slot_count if there is none. Declined: the table changed meanwhile. */
static enum cv_outcome
find(Dispatcher *self, const CvSignature *signature, size_t *found)
{
    size_t mask = self->slot_count - 1;
    *found = self->slot_count;
    if (self->slot_count == 0)
        return CV_DONE;
    for (size_t slot = signature->hash & mask; self->slots[slot] != NULL;
         slot = (slot + 1) & mask) {
        Entry *entry = self->slots[slot];
        if (!same_words(entry, signature))
            continue;
        *found = slot;
        if (CV_LIKELY(entry->reference_count == 0))
            return CV_DONE;
        uint64_t version = self->version;
        entry->users++;
        int same = same_references(entry, signature);
        release_entry(entry);
        if (same < 0)
            return CV_FAILED;
        if (CV_UNLIKELY(self->version != version))
            return CV_DECLINED;
        if (same)
            return CV_DONE;
        *found = self->slot_count;
    }
    return CV_DONE;
}

static void
clear_table(Dispatcher *self)
{
    Entry **slots = self->slots;
    size_t count = self->slot_count;
    self->slots = NULL;
    self->slot_count = self->size = 0;
    self->version++;
    for (size_t i = 0; i < count; i++)
        if (slots[i] != NULL)
            release_entry(slots[i]);
    PyMem_Free(slots);
}

static void
place(Entry **slots, size_t slot_count, Entry *entry)
{
    size_t slot = entry->hash & (slot_count - 1);
    while (slots[slot] != NULL)
        slot = (slot + 1) & (slot_count - 1);
    slots[slot] = entry;
}

static int
grow_table(Dispatcher *self)
{
    size_t count = self->slot_count == 0 ? 8 : 2 * self->slot_count;
    Entry **slots = PyMem_Calloc(count, sizeof(Entry *));
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < self->slot_count; i++)
        if (self->slots[i] != NULL)
            place(slots, count, self->slots[i]);
    PyMem_Free(self->slots);
    self->slots = slots;
    self->slot_count = count;
    return 0;
}

/* Takes over the entry. A full table starts anew: the fallback still knows what it compiled. */
static enum cv_outcome
put_entry(Dispatcher *self, const CvSignature *signature, Entry *entry)
{
    size_t slot;
    enum cv_outcome outcome = find(self, signature, &slot);
    if (outcome != CV_DONE) {
        release_entry(entry);
        return outcome;
    }
    self->version++;
    if (slot < self->slot_count) {
        Entry *previous = self->slots[slot];
        self->slots[slot] = entry;
        release_entry(previous);
        return CV_DONE;
    }
    if (self->size >= self->limit)
        clear_table(self);
    if (2 * (self->size + 1) > self->slot_count && grow_table(self) < 0) {
        release_entry(entry);
        return CV_FAILED;
    }
    place(self->slots, self->slot_count, entry);
    self->size++;
    return CV_DONE;
}

/* ---- calls ---- */

enum { INLINE_RESULTS = 16 };

static PyObject *
run(Entry *entry, const CvSignature *signature)
{
    PyObject *room[INLINE_RESULTS], **results = room, *value = NULL;
    Py_ssize_t count = cv_executable_results(entry->executable);
    if (count > INLINE_RESULTS) {
        results = PyMem_Malloc((size_t)count * sizeof(PyObject *));
        if (results == NULL)
            return PyErr_NoMemory();
    }
    if (cv_executable_run(entry->executable, signature->leaves, entry->kept, true, results) == 0) {
        value = cv_tree_build(&entry->tree, results, count);
        for (Py_ssize_t i = 0; i < count; i++)
            Py_DECREF(results[i]);
    }
    if (results != room)
        PyMem_Free(results);
    return value;
}

static PyObject *
call_fallback(Dispatcher *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *positional = PyTuple_New(count), *named = PyDict_New(), *result = NULL;
    PyObject *fallback = Py_XNewRef(self->fallback);
    if (positional == NULL || named == NULL)
        goto done;
    if (fallback == NULL) {
        PyErr_SetString(PyExc_ReferenceError, "the function has been collected");
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(positional, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(named, PyTuple_GET_ITEM(names, i), args[count + i]) < 0)
            goto done;
    PyObject *both[2] = {positional, named};
    result = PyObject_Vectorcall(fallback, both, 2, NULL);
done:
    Py_XDECREF(positional);
    Py_XDECREF(named);
    Py_XDECREF(fallback);
    return result;
}

/* The value, or NULL: with *declined if the fallback has to do it. */
static PyObject *
fast_call(Dispatcher *self, PyObject *const *args, Py_ssize_t count, PyObject *names,
          bool *declined)
{
    CvSignature signature;
    PyObject *value = NULL;
    size_t slot = 0;
    cv_signature_start(&signature);
    enum cv_outcome outcome = cv_signature_read(&signature, &self->statics, args, count, names);
    if (outcome == CV_DONE)
        outcome = find(self, &signature, &slot);
    *declined = outcome == CV_DECLINED || (outcome == CV_DONE && slot == self->slot_count);
    if (outcome == CV_DONE && !*declined) {
        Entry *entry = self->slots[slot];
        self->hits++;
        entry->users++; /* the table may be cleared meanwhile */
        value = run(entry, &signature);
        release_entry(entry);
    }
    cv_signature_finish(&signature);
    return value;
}

static PyObject *
dispatcher_call(PyObject *object, PyObject *const *args, size_t flags, PyObject *names)
{
    Dispatcher *self = (Dispatcher *)object;
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    bool declined = true;
    PyObject *value = NULL;
    Py_INCREF(self); /* the last reference may go while the call runs */
    if (CV_LIKELY(cv_current_trace() == NULL))
        value = fast_call(self, args, count, names, &declined);
    if (declined) {
        self->misses++;
        value = call_fallback(self, args, count, names);
    }
    Py_DECREF(self);
    return value;
}

/* ---- methods ---- */

/* kwargs as a vectorcall has them: values after args, names in a tuple. All references owned. */
static PyObject **
vector_arguments(PyObject *args, PyObject *kwargs, PyObject **names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(args), named = PyDict_GET_SIZE(kwargs);
    PyObject **vector = PyMem_Calloc((size_t)(count + named) + 1, sizeof(PyObject *));
    *names = PyTuple_New(named);
    if (vector == NULL || *names == NULL) {
        PyMem_Free(vector);
        Py_CLEAR(*names);
        return (PyObject **)PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count; i++)
        vector[i] = Py_NewRef(PyTuple_GET_ITEM(args, i));
    PyObject *name, *value;
    Py_ssize_t position = 0;
    for (Py_ssize_t i = 0; i < named && PyDict_Next(kwargs, &position, &name, &value); i++) {
        PyTuple_SET_ITEM(*names, i, Py_NewRef(name));
        vector[count + i] = Py_NewRef(value);
    }
    return vector;
}

static enum cv_outcome
insert(Dispatcher *self, PyObject *const *vector, Py_ssize_t count, PyObject *names,
       PyObject *executable, PyObject *tree, PyObject *kept)
{
    CvSignature signature;
    cv_signature_start(&signature);
    enum cv_outcome outcome = cv_signature_read(&signature, &self->statics, vector, count, names);
    if (outcome == CV_DONE) {
        Entry *entry = make_entry(&signature, executable, tree, kept);
        outcome = entry == NULL ? CV_FAILED : put_entry(self, &signature, entry);
    }
    cv_signature_finish(&signature);
    return outcome;
}

static bool
names_are_text(PyObject *names)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++)
        if (!PyUnicode_CheckExact(PyTuple_GET_ITEM(names, i)))
            return false;
    return true;
}

static PyObject *
dispatcher_insert(Dispatcher *self, PyObject *arguments)
{
    PyObject *args, *kwargs, *executable, *tree, *kept = Py_None, *names;
    if (!PyArg_ParseTuple(arguments, "O!O!O!O|O:insert", &PyTuple_Type, &args, &PyDict_Type,
                          &kwargs, &CvExecutable_Type, &executable, &tree, &kept))
        return NULL;
    PyObject **vector = vector_arguments(args, kwargs, &names);
    if (vector == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(args), named = PyTuple_GET_SIZE(names);
    enum cv_outcome outcome =
        names_are_text(names) ? insert(self, vector, count, names, executable, tree, kept)
                              : CV_DECLINED;
    for (Py_ssize_t i = 0; i < count + named; i++)
        Py_XDECREF(vector[i]);
    PyMem_Free(vector);
    Py_DECREF(names);
    return outcome == CV_FAILED ? NULL : PyBool_FromLong(outcome == CV_DONE);
}

static PyObject *
dispatcher_clear_entries(Dispatcher *self, PyObject *Py_UNUSED(ignored))
{
    clear_table(self);
    Py_RETURN_NONE;
}

static PyObject *
dispatcher_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    if (object == NULL || Py_IsNone(object))
        return Py_NewRef(self);
    return PyMethod_New(self, object);
}

/* ---- construction and life ---- */

static int
read_static_positions(CvStatic *statics, PyObject *positions)
{
    PyObject *items = PySequence_Tuple(positions);
    if (items == NULL)
        return -1;
    int failed = 0;
    for (Py_ssize_t i = 0; !failed && i < PyTuple_GET_SIZE(items); i++) {
        Py_ssize_t position = PyNumber_AsSsize_t(PyTuple_GET_ITEM(items, i), NULL);
        failed = position < 0 || position > 63;
        if (!failed)
            statics->positions |= UINT64_C(1) << position;
        else if (!PyErr_Occurred())
            PyErr_Format(PyExc_ValueError, "static_argnums are 0 to 63 here, got %zd", position);
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
read_static_names(CvStatic *statics, PyObject *names)
{
    statics->names = PyFrozenSet_New(names);
    if (statics->names == NULL)
        return -1;
    if (PySet_GET_SIZE(statics->names) == 0)
        Py_CLEAR(statics->names);
    return 0;
}

static PyObject *
dispatcher_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fallback", "key_fn", "static_argnums", "static_argnames",
                               "capacity", NULL};
    PyObject *fallback, *key_fn = Py_None, *positions = NULL, *names = NULL;
    Py_ssize_t capacity = 4096;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OOn:Dispatcher", keywords, &fallback,
                                     &key_fn, &positions, &names, &capacity))
        return NULL;
    if (!PyCallable_Check(fallback) || !(Py_IsNone(key_fn) || PyCallable_Check(key_fn))) {
        PyErr_SetString(PyExc_TypeError, "fallback and key_fn must be callable");
        return NULL;
    }
    if (capacity < 1) {
        PyErr_SetString(PyExc_ValueError, "a dispatcher's capacity is at least 1");
        return NULL;
    }
    Dispatcher *self = (Dispatcher *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->vectorcall = dispatcher_call;
    self->fallback = Py_NewRef(fallback);
    self->statics.key_fn = Py_IsNone(key_fn) ? NULL : Py_NewRef(key_fn);
    self->limit = (size_t)capacity;
    if ((positions != NULL && read_static_positions(&self->statics, positions) < 0) ||
        (names != NULL && read_static_names(&self->statics, names) < 0))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int
dispatcher_traverse(Dispatcher *self, visitproc visit, void *arg)
{
    Py_VISIT(self->fallback);
    Py_VISIT(self->statics.key_fn);
    Py_VISIT(self->statics.names);
    Py_VISIT(self->dict);
    for (size_t i = 0; i < self->slot_count; i++) {
        Entry *entry = self->slots[i];
        if (entry == NULL)
            continue;
        Py_VISIT(entry->executable);
        for (Py_ssize_t j = 0; j < entry->reference_count; j++)
            Py_VISIT(entry->references[j]);
        int stop = cv_tree_traverse(&entry->tree, visit, arg);
        if (stop)
            return stop;
    }
    return 0;
}

static int
dispatcher_clear(Dispatcher *self)
{
    clear_table(self);
    Py_CLEAR(self->fallback);
    Py_CLEAR(self->dict);
    return 0;
}

static void
dispatcher_dealloc(Dispatcher *self)
{
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    dispatcher_clear(self);
    Py_CLEAR(self->statics.key_fn);
    Py_CLEAR(self->statics.names);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *
dispatcher_repr(Dispatcher *self)
{
    return PyUnicode_FromFormat("<compiled %R>", self->fallback == NULL ? Py_None : self->fallback);
}

static PyMethodDef dispatcher_methods[] = {
    {"insert", (PyCFunction)dispatcher_insert, METH_VARARGS,
     PyDoc_STR("insert(args, kwargs, executable, tree, kept=None) -> bool\n\nFrom now on calls "
               "with arguments like these run `executable` on the leaves `kept` (all, if None) "
               "and return its results as `tree` says. False: such calls always go to the "
               "fallback.")},
    {"clear", (PyCFunction)dispatcher_clear_entries, METH_NOARGS,
     PyDoc_STR("clear()\n\nForget everything inserted.")},
    {NULL},
};

static PyMemberDef dispatcher_members[] = {
    {"fallback", T_OBJECT, offsetof(Dispatcher, fallback), READONLY, NULL},
    {"size", T_PYSSIZET, offsetof(Dispatcher, size), READONLY, NULL},
    {"hits", T_PYSSIZET, offsetof(Dispatcher, hits), READONLY, NULL},
    {"misses", T_PYSSIZET, offsetof(Dispatcher, misses), READONLY, NULL},
    {NULL},
};

static PyGetSetDef dispatcher_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

PyTypeObject CvDispatcher_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.Dispatcher",
    .tp_basicsize = sizeof(Dispatcher),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
                Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = PyDoc_STR("Dispatcher(fallback, key_fn=None, *, static_argnums=(), "
                        "static_argnames=(), capacity=4096)\n--\n\nCalls compiled code for known "
                        "signatures, fallback(args, kwargs) for others."),
    .tp_new = dispatcher_new,
    .tp_dealloc = (destructor)dispatcher_dealloc,
    .tp_traverse = (traverseproc)dispatcher_traverse,
    .tp_clear = (inquiry)dispatcher_clear,
    .tp_vectorcall_offset = offsetof(Dispatcher, vectorcall),
    .tp_dictoffset = offsetof(Dispatcher, dict),
    .tp_weaklistoffset = offsetof(Dispatcher, weakrefs),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = dispatcher_get,
    .tp_repr = (reprfunc)dispatcher_repr,
    .tp_methods = dispatcher_methods,
    .tp_members = dispatcher_members,
    .tp_getset = dispatcher_getset,
};
