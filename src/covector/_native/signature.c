/* The key of a call: a sequence of words which says the structure of the arguments and the type of
 * each leaf, and nothing of their values (static arguments apart). */
#include "covector.h"

enum { MAX_DEPTH = 64, MAX_DICT = 64 };

enum Tag { TAG_TUPLE = 32, TAG_LIST, TAG_DICT, TAG_NONE, TAG_REFERENCE };

void
cv_signature_start(CvSignature *self)
{
    self->words = self->inline_words;
    self->word_count = 0;
    self->word_capacity = CV_INLINE_WORDS;
    self->leaves = self->inline_leaves;
    self->leaf_count = 0;
    self->leaf_capacity = CV_INLINE_LEAVES;
    self->reference_count = 0;
}

void
cv_signature_finish(CvSignature *self)
{
    for (Py_ssize_t i = 0; i < self->leaf_count; i++)
        Py_DECREF(self->leaves[i].object);
    for (Py_ssize_t i = 0; i < self->reference_count; i++)
        Py_DECREF(self->references[i]);
    if (self->words != self->inline_words)
        PyMem_Free(self->words);
    if (self->leaves != self->inline_leaves)
        PyMem_Free(self->leaves);
}

/* ---- growing ---- */

static CV_NOINLINE bool
grow_words(CvSignature *self, size_t room)
{
    size_t capacity = 2 * self->word_capacity + room;
    uint64_t *words = PyMem_Malloc(capacity * sizeof(uint64_t));
    if (words == NULL) {
        PyErr_NoMemory();
        return false;
    }
    memcpy(words, self->words, self->word_count * sizeof(uint64_t));
    if (self->words != self->inline_words)
        PyMem_Free(self->words);
    self->words = words;
    self->word_capacity = capacity;
    return true;
}

static inline bool
have_room(CvSignature *self, size_t room)
{
    return CV_LIKELY(self->word_count + room <= self->word_capacity) || grow_words(self, room);
}

static inline void
put(CvSignature *self, uint64_t word) /* after have_room */
{
    self->words[self->word_count++] = word;
}

static inline enum cv_outcome
put_word(CvSignature *self, uint64_t word)
{
    if (!have_room(self, 1))
        return CV_FAILED;
    put(self, word);
    return CV_DONE;
}

static CV_NOINLINE bool
grow_leaves(CvSignature *self)
{
    Py_ssize_t capacity = 2 * self->leaf_capacity;
    CvLeaf *leaves = PyMem_Malloc((size_t)capacity * sizeof(CvLeaf));
    if (leaves == NULL) {
        PyErr_NoMemory();
        return false;
    }
    memcpy(leaves, self->leaves, (size_t)self->leaf_count * sizeof(CvLeaf));
    if (self->leaves != self->inline_leaves)
        PyMem_Free(self->leaves);
    self->leaves = leaves;
    self->leaf_capacity = capacity;
    return true;
}

/* ---- leaves ---- */

/* Types of elements that the fast path knows: numbers, and what user code registered. */
static bool
known_type(int type_number)
{
    return (type_number >= 0 && type_number < NPY_LONGDOUBLE) || type_number == NPY_CFLOAT ||
           type_number == NPY_CDOUBLE || type_number == NPY_HALF || type_number >= NPY_USERDEF;
}

static enum cv_outcome
put_reference(CvSignature *self, PyObject *object)
{
    if (self->reference_count == CV_MAX_REFERENCES)
        return CV_DECLINED;
    self->references[self->reference_count++] = Py_NewRef(object);
    return put_word(self, TAG_REFERENCE);
}

static enum cv_outcome
put_array(CvSignature *self, enum cv_leaf_kind kind, PyArrayObject *value, unsigned flags)
{
    int ndim = PyArray_NDIM(value), type_number = PyArray_TYPE(value);
    const npy_intp *dims = PyArray_DIMS(value);
    if (!known_type(type_number))
        return CV_DECLINED;
    if (!have_room(self, (size_t)ndim + 1))
        return CV_FAILED;
    put(self, (uint64_t)kind | flags << 8 | (uint64_t)ndim << 16 | (uint64_t)type_number << 32);
    for (int i = 0; i < ndim; i++)
        put(self, (uint64_t)dims[i]);
    return CV_DONE;
}

static enum cv_outcome
put_numpy_scalar(CvSignature *self, PyObject *object)
{
    if (PyArray_IsScalar(object, Void))
        return CV_DECLINED; /* classes of these may run Python code when asked for their dtype */
    PyArray_Descr *descr = PyArray_DescrFromTypeObject((PyObject *)Py_TYPE(object));
    if (descr == NULL) {
        PyErr_Clear();
        return CV_DECLINED;
    }
    int type_number = descr->type_num;
    Py_DECREF(descr);
    if (!known_type(type_number))
        return CV_DECLINED;
    return put_word(self, CV_LEAF_NUMPY_SCALAR | (uint64_t)type_number << 32);
}

static enum cv_outcome
put_instance(CvSignature *self, const CvArray *array)
{
    enum cv_outcome outcome = array->deleted ? CV_DECLINED : CV_DONE;
    if (CV_UNLIKELY(Py_TYPE(array) != cv_array_class) && outcome == CV_DONE)
        outcome = put_reference(self, (PyObject *)Py_TYPE(array));
    if (CV_UNLIKELY(array->dtype != NULL) && outcome == CV_DONE)
        outcome = put_reference(self, array->dtype);
    if (outcome != CV_DONE)
        return outcome;
    return put_array(self, CV_LEAF_ARRAY, array->value,
                     (unsigned)array->weak_type | (unsigned)array->extended << 1);
}

static enum cv_outcome
put_leaf(CvSignature *self, PyObject *object)
{
    CvLeaf leaf = cv_leaf(object);
    if (leaf.kind == CV_LEAF_OTHER)
        return CV_DECLINED;
    if (self->leaf_count == self->leaf_capacity && !grow_leaves(self))
        return CV_FAILED;
    self->leaves[self->leaf_count++] = (CvLeaf){Py_NewRef(object), leaf.kind};
    if (CV_LIKELY(leaf.kind == CV_LEAF_ARRAY))
        return put_instance(self, (CvArray *)object);
    if (leaf.kind == CV_LEAF_NDARRAY)
        return put_array(self, leaf.kind, (PyArrayObject *)object, 0);
    if (leaf.kind == CV_LEAF_NUMPY_SCALAR)
        return put_numpy_scalar(self, object);
    return put_word(self, leaf.kind);
}

/* ---- containers ---- */

/* A key of a dict, by its text. */
static enum cv_outcome
put_name(CvSignature *self, PyObject *name)
{
    Py_ssize_t bytes;
    const char *text = PyUnicode_AsUTF8AndSize(name, &bytes);
    if (text == NULL) {
        PyErr_Clear(); /* lone surrogates have no UTF-8 */
        return CV_DECLINED;
    }
    size_t words = ((size_t)bytes + 7) / 8;
    if (!have_room(self, words + 1))
        return CV_FAILED;
    put(self, (uint64_t)bytes);
    if (words > 0)
        self->words[self->word_count + words - 1] = 0;
    memcpy(self->words + self->word_count, text, (size_t)bytes);
    self->word_count += words;
    return CV_DONE;
}

typedef struct {
    PyObject *name, *value;
} Item;

/* Sorts by name; false if two names are the same. */
static bool
sort_items(Item *items, Py_ssize_t count)
{
    for (Py_ssize_t i = 1; i < count; i++) {
        Item moving = items[i];
        Py_ssize_t j = i;
        int order = -1;
        while (j > 0 && (order = PyUnicode_Compare(moving.name, items[j - 1].name)) < 0) {
            items[j] = items[j - 1];
            j--;
        }
        if (j > 0 && order == 0)
            return false;
        items[j] = moving;
    }
    return true;
}

static enum cv_outcome put_value(CvSignature *self, PyObject *value, int depth);

static enum cv_outcome
put_items(CvSignature *self, Item *items, Py_ssize_t count, int depth)
{
    if (!sort_items(items, count))
        return CV_DECLINED;
    enum cv_outcome outcome = put_word(self, TAG_DICT | (uint64_t)count << 8);
    for (Py_ssize_t i = 0; i < count && outcome == CV_DONE; i++) {
        outcome = put_name(self, items[i].name);
        if (outcome == CV_DONE)
            outcome = put_value(self, items[i].value, depth);
    }
    return outcome;
}

static enum cv_outcome
put_dict(CvSignature *self, PyObject *dict, int depth)
{
    Item items[MAX_DICT];
    Py_ssize_t count = 0, position = 0;
    PyObject *name, *value;
    if (PyDict_GET_SIZE(dict) > MAX_DICT)
        return CV_DECLINED;
    while (PyDict_Next(dict, &position, &name, &value)) {
        if (!PyUnicode_CheckExact(name) || count == MAX_DICT)
            return CV_DECLINED;
        items[count++] = (Item){name, value};
    }
    return put_items(self, items, count, depth);
}

static enum cv_outcome
put_sequence(CvSignature *self, enum Tag tag, PyObject *sequence, int depth)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    enum cv_outcome outcome = put_word(self, tag | (uint64_t)count << 8);
    for (Py_ssize_t i = 0; i < count && outcome == CV_DONE; i++)
        outcome = put_value(self, PySequence_Fast_GET_ITEM(sequence, i), depth);
    return outcome;
}

/* No Python code runs in here, so that borrowed references stay valid. */
static enum cv_outcome
put_value(CvSignature *self, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    if (CV_LIKELY(type == cv_array_class))
        return put_leaf(self, value);
    if (depth > MAX_DEPTH)
        return CV_DECLINED;
    if (type == &PyTuple_Type)
        return put_sequence(self, TAG_TUPLE, value, depth + 1);
    if (type == &PyList_Type)
        return put_sequence(self, TAG_LIST, value, depth + 1);
    if (type == &PyDict_Type)
        return put_dict(self, value, depth + 1);
    if (Py_IsNone(value))
        return put_word(self, TAG_NONE);
    return put_leaf(self, value);
}

/* ---- static arguments ---- */

/* Anything hashable: its hash is a word, itself a reference to be compared with. */
static enum cv_outcome
put_static(CvSignature *self, PyObject *value)
{
    enum cv_outcome outcome = put_reference(self, value);
    if (outcome != CV_DONE)
        return outcome;
    Py_hash_t hash = PyObject_Hash(value);
    if (hash == -1) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError))
            return CV_FAILED;
        PyErr_Clear(); /* unhashable: the fallback explains */
        return CV_DECLINED;
    }
    return put_word(self, (uint64_t)hash);
}

/* ---- calls ---- */

static enum cv_outcome
put_configuration(CvSignature *self, const CvStatic *statics, Py_ssize_t count, Py_ssize_t named)
{
    cv_config config = cv_current_config();
    put(self, (uint64_t)config.epoch);
    put(self, (uint64_t)config.thread_config);
    put(self, (uint64_t)count << 32 | (uint64_t)named << 1 | config.x64);
    if (statics->key_fn == NULL)
        return CV_DONE;
    PyObject *key = PyObject_CallNoArgs(statics->key_fn);
    if (key == NULL)
        return CV_FAILED;
    enum cv_outcome outcome = put_static(self, key);
    Py_DECREF(key);
    return outcome;
}

/* Keyword arguments in the order of their names. */
static enum cv_outcome
put_keywords(CvSignature *self, const CvStatic *statics, PyObject *const *values, PyObject *names)
{
    Item items[MAX_DICT];
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (count > MAX_DICT)
        return CV_DECLINED;
    for (Py_ssize_t i = 0; i < count; i++)
        items[i] = (Item){PyTuple_GET_ITEM(names, i), values[i]};
    if (statics->names == NULL)
        return put_items(self, items, count, 0);
    if (!sort_items(items, count))
        return CV_DECLINED;
    enum cv_outcome outcome = CV_DONE;
    for (Py_ssize_t i = 0; i < count && outcome == CV_DONE; i++) {
        int is_static = PySet_Contains(statics->names, items[i].name);
        outcome = is_static < 0 ? CV_FAILED : put_name(self, items[i].name);
        if (outcome == CV_DONE)
            outcome = is_static ? put_static(self, items[i].value)
                                : put_value(self, items[i].value, 0);
    }
    return outcome;
}

/* Multiplications mix upwards, shifts downwards. */
static uint64_t
hash_words(const uint64_t *words, size_t count)
{
    uint64_t hash = count * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ words[i]) * UINT64_C(0xff51afd7ed558ccd);
        hash ^= hash >> 32;
    }
    return hash;
}

enum cv_outcome
cv_signature_read(CvSignature *self, const CvStatic *statics, PyObject *const *args,
                  Py_ssize_t count, PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    enum cv_outcome outcome = put_configuration(self, statics, count, named);
    for (Py_ssize_t i = 0; i < count && outcome == CV_DONE; i++) {
        if (CV_UNLIKELY(i < 64 && (statics->positions >> i & 1)))
            outcome = put_static(self, args[i]);
        else
            outcome = put_value(self, args[i], 0);
    }
    if (named > 0 && outcome == CV_DONE)
        outcome = put_keywords(self, statics, args + count, names);
    if (outcome == CV_DONE)
        self->hash = hash_words(self->words, self->word_count);
    return outcome;
}
