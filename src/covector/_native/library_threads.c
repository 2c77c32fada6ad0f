/* Threads of BLAS and LAPACK: none but the caller's while generated code calls them.
 *
 * Parallel loops call them from many threads at once. With threads of their own they would fight
 * over the cores, and the last bits of a result would depend on how many there are. Outside of our
 * calls the library keeps the number that its user set.
 *
 * A library has one number for the process (OpenBLAS): the first call inside sets it to 1 and the
 * last restores it; calls that meet others only count themselves. Or it has one for each thread
 * (MKL, all that use OpenMP): then each call sets and restores its own. */
#include "symbols.h"

#include <pthread.h>
#include <stdatomic.h>

static struct {
    int (*get)(void);
    int (*set)(int count); /* NULL: nobody knows how to. Returns what was before if `get` is NULL */
    bool by_thread;
    atomic_int inside;     /* calls; from and to zero under the lock only */
    atomic_int before;     /* the number to restore; 0 if there is none. Changed under the lock */
    pthread_mutex_t lock;
} threads = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int
exchange(int count)
{
    if (threads.get == NULL)
        return threads.set(count);
    int before = threads.get();
    if (before != count)
        (void)threads.set(count);
    return before;
}

static void
reduce(void)
{
    int before = threads.get();
    if (before <= 1)
        return;
    atomic_store(&threads.before, before); /* first, for a child forked in between */
    (void)threads.set(1);
}

static void
restore(void)
{
    int before = atomic_load(&threads.before);
    if (before == 0)
        return;
    if (threads.get() == 1) /* else somebody else has set it meanwhile */
        (void)threads.set(before);
    atomic_store(&threads.before, 0);
}

/* Counts a call more or less, unless there are `least` or fewer. */
static bool
counted(int step, int least)
{
    int inside = atomic_load(&threads.inside);
    while (inside > least)
        if (atomic_compare_exchange_weak(&threads.inside, &inside, inside + step))
            return true;
    return false;
}

int
cv_library_enter(void)
{
    if (threads.set == NULL)
        return 0;
    if (threads.by_thread)
        return exchange(1);
    if (!counted(1, 0)) {
        pthread_mutex_lock(&threads.lock);
        if (atomic_load(&threads.inside) == 0)
            reduce();
        atomic_fetch_add(&threads.inside, 1);
        pthread_mutex_unlock(&threads.lock);
    }
    return 0;
}

void
cv_library_leave(int before)
{
    if (threads.set == NULL)
        return;
    if (threads.by_thread) {
        (void)exchange(before);
    } else if (!counted(-1, 1)) {
        pthread_mutex_lock(&threads.lock);
        if (atomic_fetch_sub(&threads.inside, 1) == 1)
            restore();
        pthread_mutex_unlock(&threads.lock);
    }
}

/* ---- setting up ---- */

/* The library's own lock must be free in the child, too. */
static void
before_fork(void)
{
    pthread_mutex_lock(&threads.lock);
}

static void
after_fork_in_parent(void)
{
    pthread_mutex_unlock(&threads.lock);
}

/* In the child there are no calls inside: whoever made them stayed with the parent. */
static void
after_fork_in_child(void)
{
    pthread_mutex_init(&threads.lock, NULL);
    atomic_store(&threads.inside, 0);
    restore();
}

static PyObject *
set_library_threads(PyObject *Py_UNUSED(module), PyObject *args)
{
    static bool registered;
    PyObject *numbers[2];
    int by_thread;
    if (!PyArg_ParseTuple(args, "OOp:set_library_threads", &numbers[0], &numbers[1], &by_thread))
        return NULL;
    void *get = PyLong_AsVoidPtr(numbers[0]), *set = PyLong_AsVoidPtr(numbers[1]);
    if (PyErr_Occurred())
        return NULL;
    if (get == NULL && set != NULL && !by_thread) {
        PyErr_SetString(PyExc_ValueError, "a number of the process cannot be set unless read");
        return NULL;
    }
    if (!registered &&
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot watch for forks");
        return NULL;
    }
    registered = true;
    threads.get = (int (*)(void))(uintptr_t)get;
    threads.set = (int (*)(int))(uintptr_t)set;
    threads.by_thread = by_thread != 0;
    Py_RETURN_NONE;
}

PyMethodDef cv_library_methods[] = {
    {"set_library_threads", set_library_threads, METH_VARARGS,
     PyDoc_STR("set_library_threads(getter, setter, by_thread)\n\nTell by which C functions the threads "
               "of BLAS and LAPACK are counted: `int getter(void)`, which may be 0 if "
               "`int setter(int)` returns what was before; nothing is set if that is 0. `by_thread`: "
               "the number is the calling thread's own. Not to be called while BLAS is.")},
    {NULL},
};
