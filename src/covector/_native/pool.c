/* The thread pool: parallel loops of generated code.
 *
 * One loop runs at a time. Who comes while it does (another user thread, or a loop inside a loop)
 * runs its own loop alone: nobody ever waits for the pool, so nothing can deadlock. A loop is a
 * range of iterations from which the caller and the workers take pieces, first come, first
 * served; what an iteration computes does not depend on who runs it.
 *
 * Workers never touch Python. The caller runs its share, then waits for workers still busy and
 * looks at signals meanwhile. */
#include "covector.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#define RELAX() _mm_pause()
#elif defined(__aarch64__)
#define RELAX() __asm__ __volatile__("yield")
#else
#define RELAX() ((void)0)
#endif

enum {
    MAX_THREADS = 256,
    SPIN_NANOSECONDS = 20000,   /* of a thread with nothing to do before it sleeps */
    WAIT_NANOSECONDS = 5000000, /* of the caller between looks at signals */
    NO_PIECE = -1
};

/* ---- what runs ---- */

typedef struct {
    const cv_frame *frame;
    cv_body body;
    int64_t upper, grain, private_bytes;
    int64_t shares;       /* into how many pieces what is left is divided at least */
    _Atomic int64_t next; /* the first iteration that nobody has taken */
    atomic_int seats;     /* how many workers may still join */
    atomic_bool failed;
    pthread_mutex_t lock; /* of what follows */
    int64_t failed_at;    /* the first iteration of the failed piece with the lowest */
    int32_t status;
#if defined(__SSE__)
    unsigned mode; /* how the caller rounds: workers compute the same */
#endif
} Job;

static void
fail(Job *job, int64_t begin, int32_t status)
{
    pthread_mutex_lock(&job->lock);
    if (job->status == 0 || begin < job->failed_at) {
        job->status = status;
        job->failed_at = begin;
    }
    pthread_mutex_unlock(&job->lock);
    atomic_store(&job->failed, true);
}

/* Pieces get smaller towards the end: the grain is an estimate, and who takes the last piece should
 * not keep the others waiting, however far the estimate is off. */
static int64_t
piece_size(const Job *job, int64_t begin)
{
    int64_t size = (job->upper - begin) / job->shares;
    return size < 1 ? 1 : size < job->grain ? size : job->grain;
}

static int64_t
take_piece(Job *job, int64_t *end)
{
    if (atomic_load_explicit(&job->failed, memory_order_relaxed) || job->frame->ctx->cancel)
        return NO_PIECE;
    int64_t begin = atomic_load_explicit(&job->next, memory_order_relaxed);
    do {
        if (begin >= job->upper)
            return NO_PIECE;
        *end = begin + piece_size(job, begin);
    } while (!atomic_compare_exchange_weak(&job->next, &begin, *end));
    return begin;
}

static int32_t
run_range(const cv_frame *frame, cv_body body, int64_t begin, int64_t end, void *private)
{
    return body(frame->dims, frame->args, frame->results, frame->ctx, frame->heap, private, begin,
                end);
}

static void *
private_memory(const cv_frame *frame, int64_t bytes)
{
    void *memory = cv_block_acquire((size_t)bytes);
    if (memory == NULL) {
        frame->ctx->failed_bytes = bytes;
        frame->ctx->failed_site = CV_PRIVATE_SITE;
        frame->ctx->error = CV_OUT_OF_MEMORY;
    }
    return memory;
}

/* Runs pieces until there are none. */
static void
run_pieces(Job *job)
{
    int64_t end, begin = take_piece(job, &end);
    if (begin == NO_PIECE)
        return;
    void *private = NULL;
    if (job->private_bytes > 0) {
        private = private_memory(job->frame, job->private_bytes);
        if (private == NULL) {
            fail(job, begin, CV_OUT_OF_MEMORY);
            return;
        }
    }
    for (; begin != NO_PIECE; begin = take_piece(job, &end)) {
        int32_t status = run_range(job->frame, job->body, begin, end, private);
        if (CV_UNLIKELY(status != 0))
            fail(job, begin, status);
    }
    if (private != NULL)
        cv_block_release(private);
}

static int32_t
run_alone(const cv_frame *frame, cv_body body, int64_t lower, int64_t upper, int64_t private_bytes)
{
    void *private = NULL;
    if (private_bytes > 0) {
        private = private_memory(frame, private_bytes);
        if (private == NULL)
            return CV_OUT_OF_MEMORY;
    }
    int32_t status = run_range(frame, body, lower, upper, private);
    if (private != NULL)
        cv_block_release(private);
    return status;
}

/* ---- the pool ---- */

enum { OPEN = 1 << 30 };

static struct {
    atomic_flag busy;  /* held by the caller whose loop it is */
    int workers;       /* how many there are; changed by that caller alone */
    atomic_uint turn;  /* counts loops: what sleeping workers wait for */
    atomic_uint gate;  /* OPEN while workers may join, plus the number of those inside */
    atomic_int asleep; /* workers that need to be woken */
    atomic_bool waits; /* the caller sleeps until the last worker has left */
    unsigned forks;    /* how many forks this process is away from its first ancestor */
    Job *job;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
} pool = {
    .busy = ATOMIC_FLAG_INIT,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

static bool
enter(void)
{
    unsigned gate = atomic_load(&pool.gate);
    while (gate & OPEN)
        if (atomic_compare_exchange_weak(&pool.gate, &gate, gate + 1))
            return true;
    return false;
}

static void
leave(void)
{
    if (atomic_fetch_sub(&pool.gate, 1) == 1 && atomic_load(&pool.waits)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_signal(&pool.done);
        pthread_mutex_unlock(&pool.lock);
    }
}

static int64_t
steady_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Waits a few microseconds for a number to change; says whether it did. */
static bool
changes_soon(atomic_uint *number, unsigned from)
{
    for (int64_t end = steady_nanoseconds() + SPIN_NANOSECONDS; steady_nanoseconds() < end;)
        for (int i = 0; i < 8; i++) {
            if (atomic_load(number) != from)
                return true;
            RELAX();
        }
    return false;
}

static unsigned
next_turn(unsigned seen)
{
    if (changes_soon(&pool.turn, seen))
        return atomic_load(&pool.turn);
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.asleep, 1);
    while (atomic_load(&pool.turn) == seen)
        pthread_cond_wait(&pool.wake, &pool.lock);
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.lock);
    return atomic_load(&pool.turn);
}

static void *
work(void *first_turn)
{
    unsigned seen = (unsigned)(uintptr_t)first_turn;
    for (;;) {
        seen = next_turn(seen);
        if (!enter())
            continue;
        Job *job = pool.job;
        if (atomic_fetch_sub(&job->seats, 1) > 0) {
#if defined(__SSE__)
            _mm_setcsr(job->mode);
#endif
            run_pieces(job);
        }
        leave();
    }
    return NULL;
}

/* Starts workers until there are as many as wanted, or the system gives no more. */
static void
hire(int wanted)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the user's threads */
    void *turn = (void *)(uintptr_t)atomic_load(&pool.turn);
    pthread_t thread;
    while (pool.workers < wanted && pthread_create(&thread, &attributes, work, turn) == 0)
        pool.workers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void
open_gate(Job *job)
{
    pool.job = job;
    atomic_store(&pool.gate, OPEN);
    atomic_fetch_add(&pool.turn, 1);
    if (atomic_load(&pool.asleep) > 0) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.lock);
    }
}

static void
wait_a_little(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NANOSECONDS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.waits, true);
    if (atomic_load(&pool.gate) != 0)
        pthread_cond_timedwait(&pool.done, &pool.lock, &until);
    atomic_store(&pool.waits, false);
    pthread_mutex_unlock(&pool.lock);
}

/* Lets nobody in any more and waits until all have left. */
static void
close_gate(cv_context *ctx, unsigned forks)
{
    unsigned inside = atomic_fetch_and(&pool.gate, ~(unsigned)OPEN) & ~(unsigned)OPEN;
    while (inside != 0 && changes_soon(&pool.gate, inside))
        inside = atomic_load(&pool.gate);
    while (atomic_load(&pool.gate) != 0 && pool.forks == forks) {
        wait_a_little();
        (void)cv_poll(ctx); /* sets ctx->cancel, which the workers see */
    }
}

static int32_t
run_together(const cv_frame *frame, cv_body body, int64_t lower, int64_t upper, int64_t grain,
             int64_t private_bytes, int threads)
{
    unsigned forks = pool.forks;
    Job job = {.frame = frame,
               .body = body,
               .upper = upper,
               .grain = grain,
               .shares = 2 * threads,
               .private_bytes = private_bytes,
               .lock = PTHREAD_MUTEX_INITIALIZER};
    atomic_init(&job.next, lower);
    atomic_init(&job.seats, threads - 1);
#if defined(__SSE__)
    job.mode = _mm_getcsr();
#endif
    if (pool.workers < threads - 1)
        hire(threads - 1);
    open_gate(&job);
    run_pieces(&job);
    close_gate(frame->ctx, forks);
    pthread_mutex_destroy(&job.lock);
    if (pool.forks != forks) /* a signal handler forked: the workers stayed with the parent */
        return CV_CANCELLED;
    if (job.status == 0 && frame->ctx->cancel)
        return CV_CANCELLED;
    return job.status;
}

int32_t
cv_parallel(const cv_frame *frame, cv_body body, int64_t lower, int64_t upper, int64_t grain,
            int64_t private_bytes)
{
    if (lower >= upper)
        return 0;
    int64_t pieces = (upper - lower - 1) / grain + 1;
    int threads = cv_current_threads();
    if (threads > pieces)
        threads = (int)pieces;
    if (threads < 2 || atomic_flag_test_and_set_explicit(&pool.busy, memory_order_acquire))
        return run_alone(frame, body, lower, upper, private_bytes);
    int32_t status = run_together(frame, body, lower, upper, grain, private_bytes, threads);
    atomic_flag_clear_explicit(&pool.busy, memory_order_release);
    return status;
}

/* ---- how many threads ---- */

static atomic_int process_threads; /* 0: one for each core */
static _Thread_local int thread_threads = -1; /* -1: as the process */
static int cores = 1;

static int
count_cores(void)
{
#if defined(__linux__)
    cpu_set_t set; /* those this process may use */
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
#endif
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
}

int
cv_current_threads(void)
{
    int threads = thread_threads < 0 ? atomic_load(&process_threads) : thread_threads;
    if (threads == 0)
        threads = cores;
    return threads < MAX_THREADS ? threads : MAX_THREADS;
}

static int
read_count(PyObject *value)
{
    int overflow;
    long count = PyLong_AsLongAndOverflow(value, &overflow);
    if (count < 0 && overflow <= 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "expected a non-negative integer");
        return -1;
    }
    return overflow > 0 || count > MAX_THREADS ? MAX_THREADS : (int)count;
}

static PyObject *
set_num_threads(PyObject *Py_UNUSED(module), PyObject *value)
{
    int count = read_count(value);
    if (count < 0)
        return NULL;
    atomic_store(&process_threads, count);
    Py_RETURN_NONE;
}

static PyObject *
set_thread_num_threads(PyObject *Py_UNUSED(module), PyObject *value)
{
    int count = Py_IsNone(value) ? -1 : read_count(value);
    if (count < 0 && PyErr_Occurred())
        return NULL;
    thread_threads = count;
    Py_RETURN_NONE;
}

static PyObject *
get_num_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(cv_current_threads());
}

static PyObject *
pool_workers(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(pool.workers);
}

PyMethodDef cv_pool_methods[] = {
    {"set_num_threads", set_num_threads, METH_O,
     PyDoc_STR("set_num_threads(count)\n\nHow many threads parallel loops use at most; 0 is one "
               "for each core.")},
    {"set_thread_num_threads", set_thread_num_threads, METH_O,
     PyDoc_STR("set_thread_num_threads(count)\n\nThe same for loops of this thread; None removes "
               "it.")},
    {"get_num_threads", get_num_threads, METH_NOARGS,
     PyDoc_STR("get_num_threads() -> int\n\nHow many threads parallel loops of this thread use at "
               "most.")},
    {"pool_workers", pool_workers, METH_NOARGS,
     PyDoc_STR("pool_workers() -> int\n\nHow many threads the pool has started.")},
    {NULL},
};

/* ---- fork ---- */

/* Only the thread that forked lives on in the child: the pool begins anew. */
static void
after_fork(void)
{
    pool.forks++;
    pool.workers = 0;
    pool.job = NULL;
    atomic_store(&pool.gate, 0);
    atomic_store(&pool.asleep, 0);
    atomic_store(&pool.waits, false);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pthread_cond_init(&pool.done, NULL);
    atomic_flag_clear(&pool.busy);
}

int
cv_pool_init(PyObject *Py_UNUSED(module))
{
    static bool registered;
    cores = count_cores();
    if (!registered && pthread_atfork(NULL, NULL, after_fork) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot watch for forks");
        return -1;
    }
    registered = true;
    return 0;
}
