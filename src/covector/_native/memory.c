/* Memory of arrays: small buffers with their object in one piece, and a cache of large blocks.
 *
 * Touching fresh pages costs several times what a kernel needs to fill them, so large blocks are
 * kept for the next result of about the same size. */
#include "covector.h"

#include <stdatomic.h>
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

/* ---- large blocks ---- */

enum {
    BLOCK_MINIMUM = 128 * 1024, /* from this size on memory comes from the cache */
    BLOCK_HEADER = 64,
    HUGE_PAGE = 2 * 1024 * 1024,
    CACHE_SLOTS = 64
};

typedef struct {
    size_t total; /* bytes of the whole allocation: the size class */
    void *base;
} BlockHeader; /* at data - BLOCK_HEADER */

static struct {
    atomic_flag busy;
    size_t limit, held;
    int count;
    BlockHeader blocks[CACHE_SLOTS]; /* oldest first */
} cache = {.busy = ATOMIC_FLAG_INIT, .limit = (size_t)256 << 20};

static atomic_uint stagger;

/* The lock is only ever tried: who does not get it does without the cache. So no caller waits, and
 * a fork in another thread's critical section costs the child its cache, not a deadlock. */
static bool
lock_cache(void)
{
    for (int attempt = 0; attempt < 100; attempt++)
        if (!atomic_flag_test_and_set_explicit(&cache.busy, memory_order_acquire))
            return true;
    return false;
}

static void
unlock_cache(void)
{
    atomic_flag_clear_explicit(&cache.busy, memory_order_release);
}

/* Eight classes per power of two, so that nearby sizes share blocks and at most 1/8 is wasted. */
static size_t
size_class(size_t bytes)
{
    size_t step = 4096;
    while (bytes / step >= 16)
        step *= 2;
    return (bytes + step - 1) / step * step;
}

static void *
system_allocate(size_t bytes)
{
    void *base = NULL;
    bool huge = bytes >= 2 * (size_t)HUGE_PAGE;
    if (posix_memalign(&base, huge ? HUGE_PAGE : 4096, bytes) != 0)
        return NULL;
#if defined(MADV_HUGEPAGE)
    if (huge)
        (void)madvise(base, bytes, MADV_HUGEPAGE); /* only advice: failing changes nothing */
#endif
    return base;
}

static BlockHeader *
header_of(void *data)
{
    return (BlockHeader *)((char *)data - BLOCK_HEADER);
}

/* Consecutive blocks start at different offsets within a page: streams whose addresses agree in
 * the low 12 bits make loads wait for unrelated stores. */
static void *
place(void *base, size_t total)
{
    unsigned turn = atomic_fetch_add_explicit(&stagger, 1, memory_order_relaxed);
    void *data = (char *)base + BLOCK_HEADER + (turn % 16) * 256;
    *header_of(data) = (BlockHeader){total, base};
    return data;
}

static bool
take_cached(size_t total, void **base)
{
    bool found = false;
    if (!lock_cache())
        return false;
    for (int i = cache.count - 1; i >= 0 && !found; i--) {
        if (cache.blocks[i].total != total)
            continue;
        *base = cache.blocks[i].base;
        cache.held -= total;
        cache.count--;
        for (int j = i; j < cache.count; j++)
            cache.blocks[j] = cache.blocks[j + 1];
        found = true;
    }
    unlock_cache();
    return found;
}

void *
cv_block_acquire(size_t bytes)
{
    if (bytes > (size_t)PTRDIFF_MAX / 2)
        return NULL;
    size_t total = size_class(bytes + BLOCK_HEADER + 4096);
    void *base;
    if (!take_cached(total, &base)) {
        base = system_allocate(total);
        if (base == NULL)
            return NULL;
    }
    return place(base, total);
}

/* Removes the oldest blocks until `room` more bytes fit; gives them back for freeing unlocked. */
static int
evict(size_t room, void **victims)
{
    int count = 0;
    while (count < cache.count &&
           (cache.held + room > cache.limit || cache.count - count == CACHE_SLOTS)) {
        cache.held -= cache.blocks[count].total;
        victims[count] = cache.blocks[count].base;
        count++;
    }
    for (int i = count; i < cache.count; i++)
        cache.blocks[i - count] = cache.blocks[i];
    cache.count -= count;
    return count;
}

void
cv_block_release(void *data)
{
    BlockHeader block = *header_of(data);
    void *victims[CACHE_SLOTS];
    int count = 0;
    if (block.total <= cache.limit / 2 && lock_cache()) {
        count = evict(block.total, victims);
        cache.blocks[cache.count++] = block;
        cache.held += block.total;
        unlock_cache();
        block.base = NULL;
    }
    for (int i = 0; i < count; i++)
        free(victims[i]);
    if (block.base != NULL)
        free(block.base);
}

static void
trim_cache(size_t limit)
{
    void *victims[CACHE_SLOTS];
    int count = 0;
    if (lock_cache()) {
        cache.limit = limit;
        count = evict(0, victims);
        unlock_cache();
    }
    for (int i = 0; i < count; i++)
        free(victims[i]);
}

/* ---- buffers ---- */

/* Objects of small buffers are recycled too: every small result needs one. */
enum { SMALL_BYTES = 256, FREE_LIST_SIZE = 64 };

static CvBuffer *free_list[FREE_LIST_SIZE];
static int free_count;

static void *
align_up(void *pointer)
{
    return (void *)(((uintptr_t)pointer + CV_ALIGNMENT - 1) & ~(uintptr_t)(CV_ALIGNMENT - 1));
}

static CvBuffer *
inline_buffer(size_t bytes)
{
    CvBuffer *self;
    if (bytes <= SMALL_BYTES && free_count > 0) {
        self = free_list[--free_count];
    } else {
        size_t room = bytes <= SMALL_BYTES ? SMALL_BYTES : bytes;
        self = PyObject_Malloc(sizeof(CvBuffer) + CV_ALIGNMENT - 1 + room);
        if (self == NULL)
            return (CvBuffer *)PyErr_NoMemory();
    }
    self->data = align_up(self + 1);
    self->is_block = false;
    return self;
}

static CvBuffer *
block_buffer(size_t bytes)
{
    CvBuffer *self = PyObject_Malloc(sizeof(CvBuffer));
    if (self == NULL)
        return (CvBuffer *)PyErr_NoMemory();
    self->data = cv_block_acquire(bytes);
    if (self->data == NULL) {
        PyObject_Free(self);
        PyErr_Format(PyExc_MemoryError, "cannot allocate an array of %zu bytes", bytes);
        return NULL;
    }
    self->is_block = true;
    return self;
}

CvBuffer *
cv_buffer_new(size_t bytes)
{
    CvBuffer *self = bytes < BLOCK_MINIMUM ? inline_buffer(bytes) : block_buffer(bytes);
    if (self == NULL)
        return NULL;
    self->size = bytes;
    return (CvBuffer *)PyObject_Init((PyObject *)self, &CvBuffer_Type);
}

static void
buffer_dealloc(CvBuffer *self)
{
    if (self->is_block)
        cv_block_release(self->data);
    else if (self->size <= SMALL_BYTES && free_count < FREE_LIST_SIZE) {
        free_list[free_count++] = self;
        return;
    }
    PyObject_Free(self);
}

PyTypeObject CvBuffer_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.Buffer",
    .tp_basicsize = sizeof(CvBuffer),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = (destructor)buffer_dealloc,
    .tp_doc = PyDoc_STR("Owns the memory of an array."),
};

/* ---- Python functions ---- */

static PyObject *
set_buffer_cache_limit(PyObject *Py_UNUSED(module), PyObject *value)
{
    size_t limit = PyLong_AsSize_t(value);
    if (limit == (size_t)-1 && PyErr_Occurred())
        return NULL;
    trim_cache(limit);
    Py_RETURN_NONE;
}

static PyObject *
clear_buffer_cache(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    size_t limit = cache.limit;
    trim_cache(0);
    cache.limit = limit;
    Py_RETURN_NONE;
}

static PyObject *
buffer_cache_bytes(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(cache.held);
}

PyMethodDef cv_memory_methods[] = {
    {"set_buffer_cache_limit", set_buffer_cache_limit, METH_O,
     PyDoc_STR("set_buffer_cache_limit(bytes)\n\nHow much memory of freed arrays is kept for "
               "new ones.")},
    {"clear_buffer_cache", clear_buffer_cache, METH_NOARGS,
     PyDoc_STR("clear_buffer_cache()\n\nGive the memory of freed arrays back to the system.")},
    {"buffer_cache_bytes", buffer_cache_bytes, METH_NOARGS,
     PyDoc_STR("buffer_cache_bytes() -> int\n\nBytes of freed arrays being kept.")},
    {NULL},
};

int
cv_memory_init(PyObject *Py_UNUSED(module))
{
    return PyType_Ready(&CvBuffer_Type);
}
