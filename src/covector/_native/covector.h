/* Covector's native runtime: what the C files of this directory share.
 *
 * The first part is the ABI between this module and generated code (and the C functions which
 * generated code may call). The second part is internal to the module. */
#ifndef COVECTOR_H
#define COVECTOR_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL covector_ARRAY_API
#ifndef COVECTOR_IMPORT_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdbool.h>
#include <stdint.h>

/* ------------------------------------------------------------------------------------------
 * ABI of generated code.
 *
 * An executable is one function
 *
 *     int32_t entry(const int64_t *dims, void **args, void **results, cv_context *ctx);
 *
 * dims     the run-time sizes, in the order of the executable's `dims`.
 * args     one pointer per input: C-contiguous, naturally aligned, native byte order, read-only.
 *          A bool is one byte and any non-zero byte is true. An input of no elements has a
 *          valid, non-NULL pointer.
 * results  one pointer per result: uninitialised, C-contiguous, aligned to 64 bytes. Results
 *          overlap neither inputs nor each other, except for donated pairs: results[o] may be
 *          args[i] for each (i, o) named in the executable's `donate`. Of pairs that hold, it has
 *          the elements of args[i] when the code begins.
 * returns  0, or CV_CANCELLED, or CV_PYTHON_ERROR, or site + 1 for the failed check of that site.
 *
 * The context lives for one call. Fields up to `poll` may be read by generated code at the
 * offsets of an ordinary C struct (given for 64-bit machines); no others. */
typedef struct cv_context cv_context;

struct cv_context {
    /*  0 */ void *(*alloc)(cv_context *ctx, int64_t bytes, int32_t site);
    /*  8 */ volatile int32_t cancel; /* non-zero: stop and return CV_CANCELLED */
    /* 12 */ volatile int32_t error;  /* set by the runtime, e.g. CV_OUT_OF_MEMORY */
    /* 16 */ void *workspace;         /* workspace_bytes bytes aligned to 64, or NULL for none */
    /* 24 */ void *const *constants;  /* one pointer per constant, as for args */
    /* 32 */ int32_t (*callback)(cv_context *ctx, int32_t id, void *const *args,
                                 void *const *results);
    /* 40 */ int32_t (*poll)(cv_context *ctx); /* the function exported as cv_poll */
    /* From here on private to the runtime. */
    _Atomic(void *) allocations; /* list of what `alloc` gave, freed after the call */
    PyThreadState *thread_state; /* saved while the interpreter lock is released, else NULL */
    const struct cv_callback *callbacks;
    const npy_intp *sizes;       /* values of run-time sizes, see CvSpec */
    unsigned long owner;         /* the calling thread: callbacks and signals belong to it */
    int64_t next_poll;           /* when to look at signals again: steady clock, nanoseconds */
    uint64_t last_poll;          /* the processor's counter when the clock was read last */
    int64_t failed_bytes;        /* of the allocation which failed */
    int32_t failed_site;
};

enum {
    CV_CANCELLED = -1,    /* ctx->cancel was seen */
    CV_PYTHON_ERROR = -2, /* a Python exception is set (callback, Ctrl-C) */
    CV_OUT_OF_MEMORY = -3 /* ctx->alloc returned NULL; ctx->failed_site says where */
};

/* Instead of a site, what the error handler is told about memory that no site asked for. */
enum {
    CV_PRIVATE_SITE = -1, /* of the threads of a parallel loop */
    CV_WORKSPACE_SITE = -2,
    CV_LIBRARY_SITE = -3, /* a function returned CV_OUT_OF_MEMORY */
    CV_RESULT_SITE = -4   /* minus the number of the result */
};

/* ctx->alloc: `bytes` bytes aligned to 64, uninitialised, valid until entry returns; may be called
 * from any thread. NULL when memory is short (the entry then returns CV_OUT_OF_MEMORY or site + 1;
 * the caller raises MemoryError naming the site whichever it is). Zero bytes give a valid pointer.
 *
 * ctx->callback: runs the Python function `id` with copies of the arguments on the calling thread
 * and copies what it returns to `results`. Non-zero: return CV_PYTHON_ERROR at once. A function
 * with an attribute `gate`, an array of one int64, is not called while the steady clock shows fewer
 * nanoseconds than it holds; one with an attribute `aborted` is told if the program fails.
 *
 * cv_poll: to be called about every millisecond, from the calling thread or a worker. Looks at
 * signals every 25 ms (taking the interpreter lock only then) if this is the main thread. Returns
 * non-zero, with ctx->cancel set, if the entry must return CV_CANCELLED. Inner loops may load
 * ctx->cancel alone. */
int32_t cv_poll(cv_context *ctx);

/* What an entry was called with, for the parts of it that other threads run. `heap` are the
 * addresses of its heap buffers. */
typedef struct {
    const int64_t *dims;
    void **args, **results;
    cv_context *ctx;
    void **heap;
} cv_frame;

/* Iterations `begin` to `end` of a loop. `memory` is the thread's own, uninitialised, aligned as
 * for ctx->alloc; NULL if the loop needs none. Returns as an entry does. */
typedef int32_t (*cv_body)(const int64_t *dims, void **args, void **results, cv_context *ctx,
                           void **heap, void *memory, int64_t begin, int64_t end);

/* Runs iterations `lower` to `upper` in pieces of `grain`, smaller ones towards the end, on several
 * threads, each with `private_bytes` of memory, or all at once on this thread if other threads are
 * not worth it or not to be had. Returns 0, or what the failed piece with the lowest iterations returned. */
int32_t cv_parallel(const cv_frame *frame, cv_body body, int64_t lower, int64_t upper,
                    int64_t grain, int64_t private_bytes);

/* Element types of cv_sort and cv_argsort. Types which are only carried along need the right
 * size, so that CV_U8 ... CV_C128 serve for all. */
enum cv_type {
    CV_BOOL = 0, CV_I8, CV_I16, CV_I32, CV_I64, CV_U8, CV_U16, CV_U32, CV_U64,
    CV_F16, CV_BF16, CV_F32, CV_F64, CV_C64, CV_C128, CV_TYPE_COUNT
};

/* Stable sorts. `rows` independent sorts of `n` elements each, contiguous along the last axis.
 * Order: the first key decides, ties go to the next; floats with -0.0 == 0.0 and all NaNs equal
 * and last; complex numbers by real, then imaginary part. `types` holds one cv_type per operand
 * (per key) in 8 bits each, the first in the lowest.
 *
 * cv_sort sorts `operands` arrays (1 to 8; p0 ... in place) by the first `keys` of them, all
 * moved alike. Pointers beyond `operands` are ignored.
 * cv_argsort leaves the keys alone and writes the permutation, as int32 or int64 (index_bytes 4
 * or 8); descending != 0 reverses the order of keys and keeps equal ones in their order.
 *
 * Both return 0, CV_CANCELLED if ctx (which may be NULL) was cancelled, or CV_OUT_OF_MEMORY (also
 * for types or counts that make no sense, and for n beyond 2^32 - 1). */
int32_t cv_sort(cv_context *ctx, int64_t rows, int64_t n, int64_t keys, int64_t operands,
                int64_t types, void *p0, void *p1, void *p2, void *p3, void *p4, void *p5,
                void *p6, void *p7);
int32_t cv_argsort(cv_context *ctx, int64_t rows, int64_t n, int64_t keys, int64_t types,
                   int64_t index_bytes, int64_t descending, void *permutation, void *k0, void *k1,
                   void *k2, void *k3);

/* BLAS and LAPACK shims: see blas.c and lapack.c for each one's signature. All return int32:
 * LAPACK's info, or one of these. */
enum {
    CV_LIBRARY_MISSING = -1000,   /* set_library_function was not called for it */
    CV_LIBRARY_TOO_LARGE = -1001, /* a dimension exceeds the library's integer type */
    CV_LIBRARY_MEMORY = -1002     /* no memory for the workspace */
};

/* ------------------------------------------------------------------------------------------
 * Internal. */

#if defined(__GNUC__) || defined(__clang__)
#define CV_LIKELY(x) __builtin_expect(!!(x), 1)
#define CV_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define CV_NOINLINE __attribute__((noinline))
#else
#define CV_LIKELY(x) (x)
#define CV_UNLIKELY(x) (x)
#define CV_NOINLINE
#endif

#define CV_ALIGNMENT 64

/* trace.c: the state of a thread. */
typedef struct {
    int64_t epoch;         /* set_config_epoch: one for the process */
    int64_t thread_config; /* set_thread_config: one per thread */
    bool x64;
} cv_config;

PyObject *cv_current_trace(void); /* borrowed; NULL = eager evaluation */
cv_config cv_current_config(void);
extern PyMethodDef cv_trace_methods[];
int cv_trace_init(PyObject *module);

/* source.c */
extern PyMethodDef cv_source_methods[];

/* memory.c: memory of results. A Buffer is an object which owns aligned memory. */
typedef struct {
    PyObject_HEAD
    void *data;
    size_t size;
    bool is_block; /* data is a block of the cache, else it follows this struct */
} CvBuffer;

extern PyTypeObject CvBuffer_Type;
CvBuffer *cv_buffer_new(size_t bytes);    /* uninitialised; NULL with MemoryError */
void *cv_block_acquire(size_t bytes);     /* large blocks, recycled; NULL if memory is short */
void cv_block_release(void *data);        /* both need no interpreter lock */
extern PyMethodDef cv_memory_methods[];
int cv_memory_init(PyObject *module);

/* pool.c */
int cv_current_threads(void); /* how many a parallel loop of this thread uses at most */
extern PyMethodDef cv_pool_methods[];
int cv_pool_init(PyObject *module);

/* array.c */
typedef struct {
    PyObject_HEAD
    PyArrayObject *value; /* read-only, aligned, native byte order; never NULL */
    PyObject *aval;       /* NULL until set */
    PyObject *dtype;      /* the extended dtype, NULL for ordinary arrays */
    PyObject *weakrefs;
    uint8_t fast;         /* enum cv_fast of the eager fast path, CV_FAST_NONE if there is none */
    uint8_t extended;     /* value's trailing dimensions which make one element (PRNG keys: 1) */
    bool weak_type;
    bool deleted;         /* donated, or delete() was called; value is a stand-in */
} CvArray;

enum cv_fast { CV_FAST_F32, CV_FAST_F64, CV_FAST_I32, CV_FAST_I64, CV_FAST_U32, CV_FAST_U64,
               CV_FAST_COUNT, CV_FAST_NONE = 255 };

extern PyTypeObject CvArray_Type;
extern PyTypeObject *cv_array_class; /* the registered subclass, CvArray_Type before */

/* An ndarray over fresh memory, read-only; `data` receives where to write. */
PyArrayObject *cv_new_ndarray(PyArray_Descr *borrowed_descr, int ndim, const npy_intp *dims,
                              void **data);
/* The same over an existing buffer (a new reference to it is taken). */
PyArrayObject *cv_ndarray_over(CvBuffer *buffer, PyArray_Descr *borrowed_descr, int ndim,
                               const npy_intp *dims);
/* An instance of the registered class; steals `value`, which must be as in CvArray. */
PyObject *cv_wrap(PyArrayObject *value, bool weak_type);
/* `array` itself or a copy: exactly ndarray, aligned, native byte order, and NumPy's `requirements`
 * (NPY_ARRAY_C_CONTIGUOUS, say) besides. */
PyArrayObject *cv_plain_layout(PyArrayObject *array, int requirements);
/* `value` (any ndarray or NumPy scalar) as CvArray wants it: a new reference. */
PyArrayObject *cv_normalise(PyObject *value, bool owned);
/* Marks as deleted and lets the memory go; `why` is for the message on later uses, a str or None. */
int cv_array_delete(CvArray *self, PyObject *why);
/* Sets RuntimeError and returns -1 if the array was deleted. */
int cv_array_check_live(const CvArray *self);
extern PyMethodDef cv_array_methods[];
int cv_array_init(PyObject *module);

static inline bool
cv_is_array(PyObject *object)
{
    return Py_TYPE(object) == cv_array_class || PyObject_TypeCheck(object, &CvArray_Type);
}

/* operators.c and kernels.c */
enum cv_operator {
    CV_ADD, CV_SUB, CV_MUL, CV_TRUEDIV,      /* with kernels; the order is kernels.c's */
    CV_LT, CV_LE, CV_EQ, CV_NE, CV_GT, CV_GE, /* the order of Py_LT ... */
    CV_KERNEL_COUNT,
    CV_FLOORDIV = CV_KERNEL_COUNT, CV_MOD, CV_DIVMOD, CV_POW, CV_MATMUL,
    CV_AND, CV_OR, CV_XOR, CV_LSHIFT, CV_RSHIFT,
    CV_NEG, CV_POS, CV_ABS, CV_INVERT,
    CV_OPERATOR_COUNT
};
enum cv_loop_mode { CV_ARRAY_ARRAY, CV_ARRAY_SCALAR, CV_SCALAR_ARRAY, CV_LOOP_MODES };
typedef void (*cv_binary_loop)(const void *a, const void *b, void *out, npy_intp n);
typedef void (*cv_unary_loop)(const void *a, void *out, npy_intp n);
extern const cv_binary_loop cv_binary_loops[CV_FAST_COUNT][CV_KERNEL_COUNT][CV_LOOP_MODES];
extern const cv_unary_loop cv_negative_loops[CV_FAST_COUNT];
extern const cv_unary_loop cv_absolute_loops[CV_FAST_COUNT];

extern PyNumberMethods cv_number_methods;
PyObject *cv_richcompare(PyObject *lhs, PyObject *rhs, int op);
extern PyMethodDef cv_operator_methods[];

/* spec.c: what an executable or callback takes and gives.
 *
 * A size is a number, or -(k + 1) for the k-th run-time size: first the `dims` which entry gets,
 * then the values of the executable's expressions. */
typedef struct {
    PyArray_Descr *descr;
    int ndim;             /* of the ndarray, hidden dimensions included */
    npy_intp *shape;      /* sizes as above */
    npy_intp bytes;       /* -1 if the shape has run-time sizes */
    bool weak_type;       /* of a result */
    PyObject *name;       /* of an input: str or NULL */
    PyObject *wrapper;    /* of a result: makes the object from the ndarray; NULL: an Array */
} CvSpec;

typedef struct {
    CvSpec *items;
    Py_ssize_t count;
    Py_ssize_t size_count; /* one more than the largest k in use */
} CvSpecs;

enum cv_spec_role { CV_INPUT, CV_RESULT };

int cv_specs_parse(CvSpecs *specs, PyObject *sequence, enum cv_spec_role role);
void cv_specs_free(CvSpecs *specs);
int cv_specs_traverse(const CvSpecs *specs, visitproc visit, void *arg);
/* "float32[3, 4]": a new str. */
PyObject *cv_describe(PyArray_Descr *descr, int ndim, const npy_intp *shape);
/* The spec's shape with run-time sizes put in; returns it (maybe in `room`). */
const npy_intp *cv_resolve(const CvSpec *spec, const npy_intp *sizes, npy_intp *room);
bool cv_same_dtype(PyArray_Descr *a, PyArray_Descr *b);
npy_intp cv_checked_bytes(npy_intp itemsize, int ndim, const npy_intp *dims);

/* runtime.c */
typedef struct cv_callback {
    PyObject *function;
    CvSpecs inputs, results;
    Py_buffer gate;    /* an int64, or no buf: the function is left out before this time */
    PyObject *aborted; /* called without arguments when a call of the program fails, or NULL */
} CvCallback;

typedef int32_t (*cv_entry)(const int64_t *dims, void **args, void **results, cv_context *ctx);

void cv_context_start(cv_context *ctx, const npy_intp *sizes, const CvCallback *callbacks);
int32_t cv_context_run(cv_context *ctx, cv_entry entry, void **args, void **results, bool release);
void cv_context_finish(cv_context *ctx);
/* leaf.c: a value given to a compiled function. */
enum cv_leaf_kind {
    CV_LEAF_ARRAY = 1,    /* an instance of ArrayBase */
    CV_LEAF_NDARRAY,      /* exactly numpy.ndarray */
    CV_LEAF_NUMPY_SCALAR,
    CV_LEAF_BOOL, CV_LEAF_INT, CV_LEAF_FLOAT, CV_LEAF_COMPLEX,
    CV_LEAF_OTHER
};

typedef struct {
    PyObject *object;
    enum cv_leaf_kind kind;
} CvLeaf;

CvLeaf cv_leaf(PyObject *object);                 /* borrows */
PyArrayObject *cv_leaf_value(const CvLeaf *leaf); /* borrowed; NULL for scalars */
/* Where a leaf's elements are, laid out as the ABI wants. `keep` receives a new reference to what
 * holds them, or NULL if that is `scratch` (16 bytes). `narrow` lets 64-bit types become the 32-bit
 * ones of the spec. 0, -1 with an exception, or 1 if the leaf does not fit the spec. */
int cv_leaf_data(const CvLeaf *leaf, const CvSpec *spec, bool narrow, void *scratch, void **data,
                 PyArrayObject **keep);
PyObject *cv_leaf_describe(const CvLeaf *leaf); /* "float32[3]": a new str */

/* executable.c */
typedef struct CvExecutable CvExecutable;
extern PyTypeObject CvExecutable_Type;
Py_ssize_t cv_executable_inputs(const CvExecutable *self);
Py_ssize_t cv_executable_results(const CvExecutable *self);
/* Runs on leaves[kept[i]] (leaves[i] if kept is NULL); `results` gets new references. */
int cv_executable_run(CvExecutable *self, const CvLeaf *leaves, const Py_ssize_t *kept, bool narrow,
                      PyObject **results);

/* tree.c: how results make the value which a function returns. */
typedef struct {
    struct CvNode *nodes; /* in prefix order */
    Py_ssize_t count;
    PyObject *function;   /* instead of nodes: called with the list of results */
} CvTree;

int cv_tree_parse(CvTree *tree, PyObject *spec, Py_ssize_t results);
PyObject *cv_tree_build(const CvTree *tree, PyObject *const *results, Py_ssize_t count);
void cv_tree_free(CvTree *tree);
int cv_tree_traverse(const CvTree *tree, visitproc visit, void *arg);

/* signature.c: a call's leaves and the key of its structure and types. */
enum { CV_INLINE_WORDS = 128, CV_INLINE_LEAVES = 24, CV_MAX_REFERENCES = 32 };

typedef struct {
    uint64_t *words;
    size_t word_count, word_capacity;
    CvLeaf *leaves; /* with references to their objects */
    Py_ssize_t leaf_count, leaf_capacity;
    PyObject *references[CV_MAX_REFERENCES]; /* static arguments, classes, extended dtypes */
    Py_ssize_t reference_count;
    uint64_t hash;
    uint64_t inline_words[CV_INLINE_WORDS];
    CvLeaf inline_leaves[CV_INLINE_LEAVES];
} CvSignature;

enum cv_outcome { CV_DONE, CV_DECLINED, CV_FAILED };

typedef struct {
    uint64_t positions;  /* bit i: positional argument i is static */
    PyObject *names;     /* frozenset of static keyword arguments, or NULL */
    PyObject *key_fn;    /* its result is part of the key, or NULL */
} CvStatic;

void cv_signature_start(CvSignature *self);
void cv_signature_finish(CvSignature *self);
/* Reads a vectorcall's arguments. Declined: something in them is not for the fast path. */
enum cv_outcome cv_signature_read(CvSignature *self, const CvStatic *statics, PyObject *const *args,
                                  Py_ssize_t count, PyObject *names);

/* dispatch.c */
extern PyTypeObject CvDispatcher_Type;

extern PyMethodDef cv_symbol_methods[], cv_blas_methods[], cv_library_methods[];

/* ---- image.c ---- */

extern PyTypeObject CvImage_Type;
extern PyMethodDef cv_debugger_methods[];
extern PyMethodDef cv_image_methods[];

#endif
