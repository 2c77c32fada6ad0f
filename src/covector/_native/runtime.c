/* The context of a call: memory, interruption and callbacks for generated code. */
#include "covector.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

/* Generated code knows these. */
_Static_assert(offsetof(cv_context, alloc) == 0 && offsetof(cv_context, cancel) == 8 &&
                   offsetof(cv_context, error) == 12 && offsetof(cv_context, workspace) == 16 &&
                   offsetof(cv_context, constants) == 24 &&
                   offsetof(cv_context, callback) == 32 && offsetof(cv_context, poll) == 40,
               "the context's layout is part of the ABI");

/* ---- memory of a call ---- */

typedef struct Allocation {
    struct Allocation *next;
    bool is_block;
} Allocation; /* followed by the memory, CV_ALIGNMENT further */

/* From this size on, memory comes from the cache of large blocks. */
enum { BLOCK_BYTES = 128 * 1024 };

static Allocation *
allocate(size_t bytes)
{
    bool is_block = bytes >= BLOCK_BYTES;
    void *base = NULL;
    if (is_block)
        base = cv_block_acquire(bytes);
    else if (posix_memalign(&base, CV_ALIGNMENT, bytes) != 0)
        base = NULL;
    if (base != NULL)
        ((Allocation *)base)->is_block = is_block;
    return base;
}

static void *
context_alloc(cv_context *ctx, int64_t bytes, int32_t site)
{
    Allocation *allocation = NULL;
    if (bytes >= 0 && bytes < INT64_MAX / 4)
        allocation = allocate((size_t)bytes + CV_ALIGNMENT);
    if (allocation == NULL) {
        if (ctx->error == 0) { /* two threads failing at once may mix their figures: no harm */
            ctx->failed_bytes = bytes;
            ctx->failed_site = site;
            ctx->error = CV_OUT_OF_MEMORY;
        }
        return NULL;
    }
    void *head = atomic_load(&ctx->allocations);
    do {
        allocation->next = head;
    } while (!atomic_compare_exchange_weak(&ctx->allocations, &head, allocation));
    return (char *)allocation + CV_ALIGNMENT;
}

static void
free_allocations(cv_context *ctx)
{
    Allocation *allocation = atomic_load_explicit(&ctx->allocations, memory_order_acquire);
    while (allocation != NULL) {
        Allocation *next = allocation->next;
        if (allocation->is_block)
            cv_block_release(allocation);
        else
            free(allocation);
        allocation = next;
    }
}

/* ---- interruption ---- */

enum { POLL_NANOSECONDS = 25 * 1000 * 1000, POLL_PATIENCE = 20, QUICK_TICKS = 10000 };

/* A counter of time that takes few nanoseconds to read; 0 where there is none. */
static uint64_t
cpu_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

static int64_t
steady_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Runs pending signal handlers. A call which kept the interpreter lock for being short turned out
 * to be long: from now on it does without. */
static int
check_signals(cv_context *ctx)
{
    if (ctx->thread_state != NULL)
        PyEval_RestoreThread(ctx->thread_state);
    int failed = PyErr_Occurred() != NULL || PyErr_CheckSignals() < 0;
    ctx->thread_state = PyEval_SaveThread();
    return failed;
}

int32_t
cv_poll(cv_context *ctx)
{
    if (ctx->cancel)
        return CV_CANCELLED;
    if (PyThread_get_thread_ident() != ctx->owner)
        return 0;
    /* The counter is read sooner than the clock: short calls of functions poll after each. */
    uint64_t ticks = cpu_ticks();
    if (ticks != 0 && ticks - ctx->last_poll < QUICK_TICKS)
        return 0;
    ctx->last_poll = ticks;
    int64_t now = steady_nanoseconds();
    if (now < ctx->next_poll)
        return 0;
    if (ctx->next_poll != 0 && check_signals(ctx)) {
        ctx->error = CV_PYTHON_ERROR;
        ctx->cancel = 1;
        return CV_CANCELLED;
    }
    /* Where other threads keep the lock busy, ask so rarely that waiting costs at most 1/20. */
    int64_t waited = steady_nanoseconds() - now;
    int64_t pause = waited * POLL_PATIENCE;
    ctx->next_poll = now + waited + (pause > POLL_NANOSECONDS ? pause : POLL_NANOSECONDS);
    return 0;
}

/* ---- callbacks ---- */

static PyObject *
copy_arguments(const CvCallback *callback, const npy_intp *sizes, void *const *args)
{
    PyObject *list = PyList_New(callback->inputs.count);
    for (Py_ssize_t i = 0; list != NULL && i < callback->inputs.count; i++) {
        const CvSpec *spec = &callback->inputs.items[i];
        npy_intp room[NPY_MAXDIMS];
        void *data;
        PyArrayObject *array =
            cv_new_ndarray(spec->descr, spec->ndim, cv_resolve(spec, sizes, room), &data);
        if (array == NULL) {
            Py_CLEAR(list);
        } else {
            memcpy(data, args[i], (size_t)PyArray_NBYTES(array));
            PyList_SET_ITEM(list, i, (PyObject *)array);
        }
    }
    return list;
}

/* What a callback returned as an ndarray of plain layout: a new reference. */
static PyArrayObject *
result_ndarray(PyObject *object)
{
    if (cv_is_array(object)) {
        CvArray *array = (CvArray *)object;
        if (cv_array_check_live(array) < 0)
            return NULL;
        object = (PyObject *)array->value;
    }
    PyArrayObject *array = (PyArrayObject *)PyArray_FromAny(object, NULL, 0, 0, 0, NULL);
    if (array == NULL)
        return NULL;
    PyArrayObject *plain = cv_plain_layout(array, NPY_ARRAY_C_CONTIGUOUS);
    Py_DECREF(array);
    return plain;
}

static int
copy_result(const CvCallback *callback, Py_ssize_t index, const npy_intp *sizes, PyObject *object,
            void *target)
{
    PyArrayObject *array = result_ndarray(object);
    if (array == NULL)
        return -1;
    const CvSpec *spec = &callback->results.items[index];
    npy_intp room[NPY_MAXDIMS];
    const npy_intp *shape = cv_resolve(spec, sizes, room);
    int matches = cv_same_dtype(PyArray_DESCR(array), spec->descr) &&
                  PyArray_NDIM(array) == spec->ndim &&
                  PyArray_CompareLists(PyArray_DIMS(array), shape, spec->ndim);
    if (matches) {
        memcpy(target, PyArray_DATA(array), (size_t)PyArray_NBYTES(array));
    } else {
        PyObject *wanted = cv_describe(spec->descr, spec->ndim, shape);
        PyObject *got =
            cv_describe(PyArray_DESCR(array), PyArray_NDIM(array), PyArray_DIMS(array));
        if (wanted != NULL && got != NULL)
            PyErr_Format(PyExc_TypeError,
                         "result %zd of callback %R: declared as %U, but it returned %U", index,
                         callback->function, wanted, got);
        Py_XDECREF(wanted);
        Py_XDECREF(got);
    }
    Py_DECREF(array);
    return matches ? 0 : -1;
}

static int
copy_results(const CvCallback *callback, const npy_intp *sizes, PyObject *returned,
             void *const *results)
{
    PyObject *items = PySequence_Tuple(returned);
    if (items == NULL)
        return -1;
    Py_ssize_t count = PyTuple_GET_SIZE(items);
    int failed = count != callback->results.count;
    if (failed)
        PyErr_Format(PyExc_TypeError, "callback %R: declared to return %zd arrays, got %zd",
                     callback->function, callback->results.count, count);
    for (Py_ssize_t i = 0; !failed && i < count; i++)
        failed = copy_result(callback, i, sizes, PyTuple_GET_ITEM(items, i), results[i]) < 0;
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
call_python(cv_context *ctx, const CvCallback *callback, void *const *args, void *const *results)
{
    if (PyErr_Occurred())
        return -1; /* an earlier one failed and generated code went on */
    PyObject *list = copy_arguments(callback, ctx->sizes, args);
    if (list == NULL)
        return -1;
    PyObject *returned = PyObject_CallOneArg(callback->function, list);
    Py_DECREF(list);
    if (returned == NULL)
        return -1;
    int failed = copy_results(callback, ctx->sizes, returned, results);
    Py_DECREF(returned);
    return failed;
}

/* Whether it is too early to call the function again. */
static bool
is_shut(const CvCallback *callback)
{
    const int64_t *gate = callback->gate.buf;
    return gate != NULL && steady_nanoseconds() < __atomic_load_n(gate, __ATOMIC_RELAXED);
}

static int32_t
context_callback(cv_context *ctx, int32_t id, void *const *args, void *const *results)
{
    if (is_shut(&ctx->callbacks[id]))
        return 0;
    int failed = -1;
    if (PyThread_get_thread_ident() == ctx->owner) {
        bool released = ctx->thread_state != NULL;
        if (released)
            PyEval_RestoreThread(ctx->thread_state);
        ctx->thread_state = NULL;
        failed = call_python(ctx, &ctx->callbacks[id], args, results);
        if (released)
            ctx->thread_state = PyEval_SaveThread();
    }
    if (failed) {
        ctx->error = CV_PYTHON_ERROR;
        ctx->cancel = 1;
        return CV_PYTHON_ERROR;
    }
    return 0;
}

/* ---- calls ---- */

void
cv_context_start(cv_context *ctx, const npy_intp *sizes, const CvCallback *callbacks)
{
    *ctx = (cv_context){
        .alloc = context_alloc,
        .callback = context_callback,
        .poll = cv_poll,
        .sizes = sizes,
        .callbacks = callbacks,
        .owner = PyThread_get_thread_ident(),
    };
}

int32_t
cv_context_run(cv_context *ctx, cv_entry entry, void **args, void **results, bool release)
{
    _Static_assert(sizeof(npy_intp) == sizeof(int64_t), "sizes are passed as int64");
    if (release)
        ctx->thread_state = PyEval_SaveThread();
    int32_t code = entry((const int64_t *)ctx->sizes, args, results, ctx);
    if (ctx->thread_state != NULL) {
        PyEval_RestoreThread(ctx->thread_state);
        ctx->thread_state = NULL;
    }
    return code;
}

void
cv_context_finish(cv_context *ctx)
{
    if (CV_UNLIKELY(ctx->allocations != NULL))
        free_allocations(ctx);
}
