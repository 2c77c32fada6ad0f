/* Running an executable. */
#include "executable.h"

Py_ssize_t
cv_executable_inputs(const CvExecutable *self)
{
    return self->inputs.count;
}

Py_ssize_t
cv_executable_results(const CvExecutable *self)
{
    return self->results.count;
}

/* ---- run-time sizes ---- */

static int
argument_error(const CvExecutable *self, Py_ssize_t index, const CvLeaf *leaf)
{
    const CvSpec *spec = &self->inputs.items[index];
    PyObject *wanted = cv_describe(spec->descr, spec->ndim, spec->shape);
    PyObject *got = cv_leaf_describe(leaf);
    PyObject *name = spec->name != NULL ? PyUnicode_FromFormat(" ('%U')", spec->name)
                                        : PyUnicode_FromString("");
    if (wanted != NULL && got != NULL && name != NULL)
        PyErr_Format(PyExc_TypeError, "%U: argument %zd%U must be %U, got %U", self->name, index,
                     name, wanted, got);
    Py_XDECREF(wanted);
    Py_XDECREF(got);
    Py_XDECREF(name);
    return -1;
}

static int
bind_sizes(const CvExecutable *self, npy_intp *sizes, PyArrayObject *const *inputs,
           const CvLeaf *const *leaves, bool expressions)
{
    for (Py_ssize_t i = 0; i < self->inputs.count; i++) {
        const CvSpec *spec = &self->inputs.items[i];
        for (int axis = 0; spec->bytes < 0 && axis < spec->ndim; axis++) {
            Py_ssize_t k = -spec->shape[axis] - 1;
            if (k < 0 || (k >= self->dim_count) != expressions)
                continue;
            npy_intp size = PyArray_DIM(inputs[i], axis);
            if (sizes[k] == -1)
                sizes[k] = size;
            else if (sizes[k] != size)
                return argument_error(self, i, leaves[i]);
        }
    }
    return 0;
}

static int
evaluate(const CvExecutable *self, const Expression *expression, const npy_intp *sizes,
         npy_intp *value)
{
    npy_intp sum = 0;
    bool overflow = false;
    for (Py_ssize_t i = 0; i < expression->count; i++) {
        const Term *term = &expression->terms[i];
        npy_intp product = term->coefficient;
        for (Py_ssize_t j = 0; j < term->count; j++)
            overflow |= __builtin_mul_overflow(product, sizes[term->factors[j]], &product);
        overflow |= __builtin_add_overflow(sum, product, &sum);
    }
    *value = sum;
    if (!overflow && sum >= 0)
        return 0;
    PyErr_Format(PyExc_ValueError, "%U: a size computed from the arguments' sizes is %s",
                 self->name, overflow ? "too large" : "negative");
    return -1;
}

static int
find_sizes(const CvExecutable *self, npy_intp *sizes, PyArrayObject *const *inputs,
           const CvLeaf *const *leaves)
{
    for (Py_ssize_t k = 0; k < self->dim_count; k++)
        sizes[k] = self->dims[k];
    if (bind_sizes(self, sizes, inputs, leaves, false) < 0)
        return -1;
    for (Py_ssize_t k = 0; k < self->expression_count; k++)
        if (evaluate(self, &self->expressions[k], sizes, &sizes[self->dim_count + k]) < 0)
            return -1;
    return bind_sizes(self, sizes, inputs, leaves, true);
}

/* ---- failures ---- */

/* Asks the handler, who knows the user's program, to raise the exception. If it does not, there is
 * none. */
static void
ask_handler(const CvExecutable *self, int32_t code, int32_t site, int64_t bytes)
{
    if (self->error_handler == NULL)
        return;
    PyObject *returned =
        PyObject_CallFunction(self->error_handler, "iiL", code, site, (long long)bytes);
    Py_XDECREF(returned);
}

static int
no_memory(const CvExecutable *self, int32_t site, int64_t bytes, const char *what)
{
    PyErr_Clear();
    ask_handler(self, CV_OUT_OF_MEMORY, site, bytes);
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_MemoryError, "%U: cannot allocate %s of %lld bytes", self->name, what,
                     (long long)bytes);
    return -1;
}

/* ---- workspace ---- */

/* Small workspaces stay with the executable, large ones return to the cache of blocks. */
static int
take_workspace(CvExecutable *self, const npy_intp *sizes, void **workspace, bool *cached)
{
    npy_intp bytes = self->workspace_bytes;
    if (bytes < 0)
        bytes = sizes[-bytes - 1];
    *workspace = NULL;
    *cached = self->workspace_bytes >= 0 && bytes <= CACHED_WORKSPACE;
    if (bytes == 0)
        return 0;
    for (int i = 0; *cached && i < FREE_WORKSPACES; i++) {
        if (self->workspaces[i] != NULL) {
            *workspace = self->workspaces[i];
            self->workspaces[i] = NULL;
            return 0;
        }
    }
    *workspace = cv_block_acquire((size_t)bytes);
    if (*workspace != NULL)
        return 0;
    return no_memory(self, CV_WORKSPACE_SITE, bytes, "a workspace");
}

static void
return_workspace(CvExecutable *self, void *workspace, bool cached)
{
    if (workspace == NULL)
        return;
    for (int i = 0; cached && i < FREE_WORKSPACES; i++) {
        if (self->workspaces[i] == NULL) {
            self->workspaces[i] = workspace;
            return;
        }
    }
    cv_block_release(workspace);
}

/* ---- a call ---- */

enum { INLINE_INPUTS = 24, INLINE_RESULTS = 16, INLINE_SIZES = 16 };

typedef union {
    char bytes[16];
    double aligned;
} Scratch;

/* What one call needs, in arrays on the stack or, for many arguments, in one allocation. */
typedef struct {
    void **args, **results;
    PyArrayObject **inputs;
    const CvLeaf **leaves;
    Scratch *scratch;
    CvBuffer **buffers;
    npy_intp *sizes;
    void *allocated;
} Call;

static int
make_call(const CvExecutable *self, Call *call)
{
    size_t inputs = (size_t)self->inputs.count, results = (size_t)self->results.count;
    size_t sizes = (size_t)(self->dim_count + self->expression_count);
    size_t bytes = inputs * (sizeof(Scratch) + 3 * sizeof(void *)) + results * 2 * sizeof(void *) +
                   sizes * sizeof(npy_intp);
    char *memory = PyMem_Malloc(bytes + 1);
    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    call->allocated = memory;
    call->scratch = (Scratch *)memory;
    call->args = (void **)(call->scratch + inputs);
    call->inputs = (PyArrayObject **)(call->args + inputs);
    call->leaves = (const CvLeaf **)(call->inputs + inputs);
    call->results = (void **)(call->leaves + inputs);
    call->buffers = (CvBuffer **)(call->results + results);
    call->sizes = (npy_intp *)(call->buffers + results);
    return 0;
}

static int
read_inputs(CvExecutable *self, Call *call, const CvLeaf *leaves, const Py_ssize_t *kept,
            bool narrow)
{
    for (Py_ssize_t i = 0; i < self->inputs.count; i++) {
        const CvLeaf *leaf = &leaves[kept == NULL ? i : kept[i]];
        call->leaves[i] = leaf;
        int outcome = cv_leaf_data(leaf, &self->inputs.items[i], narrow, &call->scratch[i],
                                   &call->args[i], &call->inputs[i]);
        if (CV_UNLIKELY(outcome != 0))
            return outcome < 0 ? -1 : argument_error(self, i, leaf);
    }
    return CV_UNLIKELY(self->symbolic) ? find_sizes(self, call->sizes, call->inputs, call->leaves)
                                       : 0;
}

/* The input's own buffer, if nobody but its Array (and this call) refers to it: a new reference. */
static CvBuffer *
donated_buffer(const CvLeaf *leaf, PyArrayObject *input, size_t bytes)
{
    if (leaf->kind != CV_LEAF_ARRAY || cv_leaf_value(leaf) != input || Py_REFCNT(input) != 2)
        return NULL;
    PyObject *base = PyArray_BASE(input);
    if (base == NULL || !Py_IS_TYPE(base, &CvBuffer_Type) || Py_REFCNT(base) != 1)
        return NULL;
    CvBuffer *buffer = (CvBuffer *)base;
    if (buffer->data != PyArray_DATA(input) || buffer->size != bytes)
        return NULL;
    return (CvBuffer *)Py_NewRef(base);
}

static int
make_results(CvExecutable *self, Call *call)
{
    for (Py_ssize_t i = 0; i < self->results.count; i++) {
        const CvSpec *spec = &self->results.items[i];
        npy_intp bytes = spec->bytes, room[NPY_MAXDIMS];
        if (bytes < 0)
            bytes = cv_checked_bytes(PyDataType_ELSIZE(spec->descr), spec->ndim,
                                     cv_resolve(spec, call->sizes, room));
        if (bytes < 0)
            return -1;
        CvBuffer *buffer = NULL;
        Py_ssize_t donor = self->donors == NULL ? -1 : self->donors[i].input;
        if (donor >= 0)
            buffer = donated_buffer(call->leaves[donor], call->inputs[donor], (size_t)bytes);
        if (buffer == NULL)
            buffer = cv_buffer_new((size_t)bytes);
        if (buffer == NULL)
            return no_memory(self, CV_RESULT_SITE - (int32_t)i, bytes, "a result");
        call->buffers[i] = buffer;
        call->results[i] = buffer->data;
        if (donor >= 0 && self->donors[i].holds && buffer->data != call->args[donor])
            memcpy(buffer->data, call->args[donor], (size_t)bytes); /* its memory is shared */
    }
    return 0;
}

/* Donated arrays are gone whatever happens from here on: their memory may be overwritten. */
static int
delete_donated(CvExecutable *self, Call *call)
{
    for (Py_ssize_t i = 0; self->donated != NULL && i < self->inputs.count; i++) {
        if (self->donated[i] != NULL && call->leaves[i]->kind == CV_LEAF_ARRAY &&
            cv_array_delete((CvArray *)call->leaves[i]->object, self->donated[i]) < 0)
            return -1;
    }
    return 0;
}

/* Tells functions that show something while the program runs; the exception stays as it is. */
static void
tell_of_failure(CvExecutable *self)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    for (Py_ssize_t i = 0; i < self->callback_count; i++) {
        PyObject *aborted = self->callbacks[i].aborted;
        PyObject *result = aborted == NULL ? NULL : PyObject_CallNoArgs(aborted);
        if (result == NULL && aborted != NULL)
            PyErr_WriteUnraisable(aborted);
        Py_XDECREF(result);
    }
    PyErr_Restore(type, value, traceback);
}

/* The handler is asked about failed checks and memory: what has a site in the user's program. */
static int
report(CvExecutable *self, const cv_context *ctx, int32_t code)
{
    if (PyErr_Occurred())
        return -1;
    int32_t site = code - 1;
    int64_t bytes = 0;
    if (ctx->error == CV_OUT_OF_MEMORY) {
        code = CV_OUT_OF_MEMORY;
        site = ctx->failed_site;
        bytes = ctx->failed_bytes;
    } else if (code == CV_OUT_OF_MEMORY) {
        site = CV_LIBRARY_SITE;
        bytes = -1;
    }
    if (code > 0 || code == CV_OUT_OF_MEMORY)
        ask_handler(self, code, site, bytes);
    if (PyErr_Occurred())
        return -1;
    if (code == CV_OUT_OF_MEMORY)
        PyErr_Format(PyExc_MemoryError, "%U: cannot allocate %lld bytes (site %d)", self->name,
                     (long long)bytes, site);
    else
        PyErr_Format(PyExc_RuntimeError, "%U: failed with code %d", self->name, code);
    return -1;
}

static int
execute(CvExecutable *self, Call *call)
{
    cv_context ctx;
    bool cached;
    cv_context_start(&ctx, call->sizes, self->callbacks);
    ctx.constants = self->constant_data;
    if (take_workspace(self, call->sizes, &ctx.workspace, &cached) < 0)
        return -1;
    int32_t code = cv_context_run(&ctx, self->entry, call->args, call->results, self->release);
    cv_context_finish(&ctx);
    return_workspace(self, ctx.workspace, cached);
    if (CV_LIKELY(code == 0 && ctx.error == 0))
        return 0;
    tell_of_failure(self);
    return report(self, &ctx, code);
}

static PyObject *
wrap_result(const CvSpec *spec, const npy_intp *sizes, CvBuffer *buffer)
{
    npy_intp room[NPY_MAXDIMS];
    PyArrayObject *value =
        cv_ndarray_over(buffer, spec->descr, spec->ndim, cv_resolve(spec, sizes, room));
    if (value == NULL)
        return NULL;
    if (CV_LIKELY(spec->wrapper == NULL))
        return cv_wrap(value, spec->weak_type);
    PyObject *object = PyObject_CallOneArg(spec->wrapper, (PyObject *)value);
    Py_DECREF(value);
    return object;
}

static int
wrap_results(CvExecutable *self, Call *call, PyObject **results)
{
    for (Py_ssize_t i = 0; i < self->results.count; i++) {
        results[i] = wrap_result(&self->results.items[i], call->sizes, call->buffers[i]);
        if (results[i] == NULL) {
            for (Py_ssize_t made = 0; made < i; made++)
                Py_CLEAR(results[made]);
            return -1;
        }
    }
    return 0;
}

int
cv_executable_run(CvExecutable *self, const CvLeaf *leaves, const Py_ssize_t *kept, bool narrow,
                  PyObject **results)
{
    void *args[INLINE_INPUTS], *pointers[INLINE_RESULTS];
    PyArrayObject *inputs[INLINE_INPUTS];
    const CvLeaf *used[INLINE_INPUTS];
    Scratch scratch[INLINE_INPUTS];
    CvBuffer *buffers[INLINE_RESULTS];
    npy_intp sizes[INLINE_SIZES];
    Call call = {args, pointers, inputs, used, scratch, buffers, sizes, NULL};
    if ((self->inputs.count > INLINE_INPUTS || self->results.count > INLINE_RESULTS ||
         self->dim_count + self->expression_count > INLINE_SIZES) &&
        make_call(self, &call) < 0)
        return -1;
    memset(call.inputs, 0, (size_t)self->inputs.count * sizeof(void *));
    memset(call.buffers, 0, (size_t)self->results.count * sizeof(void *));
    Py_INCREF(self);
    int failed = read_inputs(self, &call, leaves, kept, narrow) < 0 ||
                 make_results(self, &call) < 0 || delete_donated(self, &call) < 0 ||
                 execute(self, &call) < 0 || wrap_results(self, &call, results) < 0;
    for (Py_ssize_t i = 0; i < self->inputs.count; i++)
        Py_XDECREF(call.inputs[i]);
    for (Py_ssize_t i = 0; i < self->results.count; i++)
        Py_XDECREF(call.buffers[i]);
    PyMem_Free(call.allocated);
    Py_DECREF(self);
    return failed ? -1 : 0;
}
