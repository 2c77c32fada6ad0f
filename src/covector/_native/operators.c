/* Python's operators on arrays: small loops in C for the common eager cases, and a hook for each
 * operator which does everything else. */
#include "covector.h"

static const char *const operator_names[CV_OPERATOR_COUNT] = {
    [CV_ADD] = "add", [CV_SUB] = "sub", [CV_MUL] = "mul", [CV_TRUEDIV] = "truediv",
    [CV_LT] = "lt", [CV_LE] = "le", [CV_EQ] = "eq", [CV_NE] = "ne", [CV_GT] = "gt",
    [CV_GE] = "ge", [CV_FLOORDIV] = "floordiv", [CV_MOD] = "mod", [CV_DIVMOD] = "divmod",
    [CV_POW] = "pow", [CV_MATMUL] = "matmul", [CV_AND] = "and", [CV_OR] = "or", [CV_XOR] = "xor",
    [CV_LSHIFT] = "lshift", [CV_RSHIFT] = "rshift", [CV_NEG] = "neg", [CV_POS] = "pos",
    [CV_ABS] = "abs", [CV_INVERT] = "invert",
};

/* From this many elements on other threads may run meanwhile. */
enum { RELEASE_ELEMENTS = 1 << 18 };

static PyObject *hooks[CV_OPERATOR_COUNT];
static bool fast_path_enabled = true;

static int
type_number(uint8_t fast)
{
    static const int numbers[CV_FAST_COUNT] = {NPY_FLOAT32, NPY_FLOAT64, NPY_INT32,
                                               NPY_INT64,   NPY_UINT32,  NPY_UINT64};
    return numbers[fast];
}

static PyArray_Descr *
result_descr(uint8_t fast, bool predicate) /* borrowed */
{
    static PyArray_Descr *cached[CV_FAST_COUNT + 1];
    int slot = predicate ? CV_FAST_COUNT : fast;
    if (CV_UNLIKELY(cached[slot] == NULL))
        cached[slot] = PyArray_DescrFromType(predicate ? NPY_BOOL : type_number(fast));
    return cached[slot];
}

/* ---- operands ---- */

typedef union {
    float f32;
    double f64;
    int32_t i32;
    int64_t i64;
    uint32_t u32;
    uint64_t u64;
} Scalar;

static inline CvArray *
eligible(PyObject *object)
{
    if (Py_TYPE(object) != cv_array_class)
        return NULL;
    CvArray *array = (CvArray *)object;
    return array->fast == CV_FAST_NONE ? NULL : array;
}

/* A Python int takes part if it fits 32 bits: what the others do depends on the configuration. */
static bool
scalar_from_int(PyObject *object, uint8_t fast, Scalar *scalar)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow || value > INT32_MAX || value < INT32_MIN)
        return false;
    switch (fast) {
    case CV_FAST_F32:
        scalar->f32 = (float)value;
        return true;
    case CV_FAST_F64:
        scalar->f64 = (double)value;
        return true;
    case CV_FAST_I32:
        scalar->i32 = (int32_t)value;
        return true;
    case CV_FAST_I64:
        scalar->i64 = value;
        return true;
    case CV_FAST_U32:
        scalar->u32 = (uint32_t)value;
        return value >= 0;
    default:
        scalar->u64 = (uint64_t)value;
        return value >= 0;
    }
}

/* A Python number as an element of the array beside it, if the array's type decides. */
static bool
python_scalar(PyObject *object, uint8_t fast, Scalar *scalar)
{
    if (PyLong_CheckExact(object))
        return scalar_from_int(object, fast, scalar);
    if (!PyFloat_CheckExact(object))
        return false;
    double value = PyFloat_AS_DOUBLE(object);
    if (fast == CV_FAST_F32)
        scalar->f32 = (float)value;
    else if (fast == CV_FAST_F64)
        scalar->f64 = value;
    else
        return false;
    return true;
}

static bool
same_shape(PyArrayObject *a, PyArrayObject *b)
{
    int ndim = PyArray_NDIM(a);
    const npy_intp *x = PyArray_DIMS(a), *y = PyArray_DIMS(b);
    if (ndim != PyArray_NDIM(b))
        return false;
    for (int i = 0; i < ndim; i++)
        if (x[i] != y[i])
            return false;
    return true;
}

typedef struct {
    const CvArray *like; /* gives the result its shape and type */
    const void *a, *b;
    enum cv_loop_mode mode;
    bool weak_type;
    Scalar scalar;
} Operands;

static bool
two_arrays(const CvArray *a, const CvArray *b, Operands *operands)
{
    if (a->fast != b->fast)
        return false;
    operands->weak_type = a->weak_type && b->weak_type;
    operands->a = PyArray_DATA(a->value);
    operands->b = PyArray_DATA(b->value);
    operands->like = a;
    operands->mode = CV_ARRAY_ARRAY;
    if (same_shape(a->value, b->value))
        return true;
    if (PyArray_NDIM(b->value) == 0) {
        operands->mode = CV_ARRAY_SCALAR;
        return true;
    }
    operands->like = b;
    operands->mode = CV_SCALAR_ARRAY;
    return PyArray_NDIM(a->value) == 0;
}

static bool
find_operands(PyObject *lhs, PyObject *rhs, Operands *operands)
{
    const CvArray *a = eligible(lhs), *b = eligible(rhs);
    if (a != NULL && b != NULL)
        return two_arrays(a, b, operands);
    if (a != NULL) {
        operands->like = a;
        operands->weak_type = a->weak_type;
        operands->a = PyArray_DATA(a->value);
        operands->b = &operands->scalar;
        operands->mode = CV_ARRAY_SCALAR;
        return python_scalar(rhs, a->fast, &operands->scalar);
    }
    if (b == NULL)
        return false;
    operands->like = b;
    operands->weak_type = b->weak_type;
    operands->a = &operands->scalar;
    operands->b = PyArray_DATA(b->value);
    operands->mode = CV_SCALAR_ARRAY;
    return python_scalar(lhs, b->fast, &operands->scalar);
}

/* ---- execution ---- */

/* While the lock is released another thread may delete() an operand: keep its memory. */
static CV_NOINLINE void
run_released(cv_binary_loop loop, const Operands *operands, void *out, npy_intp n, PyObject *lhs,
             PyObject *rhs)
{
    PyObject *a = eligible(lhs) ? Py_NewRef(((CvArray *)lhs)->value) : NULL;
    PyObject *b = eligible(rhs) ? Py_NewRef(((CvArray *)rhs)->value) : NULL;
    Py_BEGIN_ALLOW_THREADS
    loop(operands->a, operands->b, out, n);
    Py_END_ALLOW_THREADS
    Py_XDECREF(a);
    Py_XDECREF(b);
}

/* The result, or NULL: with an exception, or without one where the hook has to decide. */
static PyObject *
fast_binary(enum cv_operator op, PyObject *lhs, PyObject *rhs)
{
    Operands operands;
    if (!fast_path_enabled || cv_current_trace() != NULL || !find_operands(lhs, rhs, &operands))
        return NULL;
    const CvArray *like = operands.like;
    cv_binary_loop loop = cv_binary_loops[like->fast][op][operands.mode];
    if (loop == NULL)
        return NULL;
    bool predicate = op >= CV_LT;
    npy_intp n = PyArray_SIZE(like->value);
    void *out;
    PyArrayObject *value = cv_new_ndarray(result_descr(like->fast, predicate),
                                          PyArray_NDIM(like->value), PyArray_DIMS(like->value),
                                          &out);
    if (value == NULL)
        return NULL;
    if (n < RELEASE_ELEMENTS)
        loop(operands.a, operands.b, out, n);
    else
        run_released(loop, &operands, out, n, lhs, rhs);
    return cv_wrap(value, operands.weak_type && !predicate);
}

static PyObject *
call_hook(enum cv_operator op, PyObject *lhs, PyObject *rhs)
{
    PyObject *hook = hooks[op];
    if (hook == NULL)
        Py_RETURN_NOTIMPLEMENTED;
    PyObject *args[2] = {lhs, rhs};
    Py_INCREF(hook); /* it may be replaced while it runs */
    PyObject *result = PyObject_Vectorcall(hook, args, rhs == NULL ? 1 : 2, NULL);
    Py_DECREF(hook);
    return result;
}

static PyObject *
binary(enum cv_operator op, PyObject *lhs, PyObject *rhs)
{
    PyObject *result = fast_binary(op, lhs, rhs);
    if (CV_LIKELY(result != NULL) || PyErr_Occurred())
        return result;
    return call_hook(op, lhs, rhs);
}

static PyObject *
unary(enum cv_operator op, const cv_unary_loop *loops, PyObject *operand)
{
    CvArray *array = fast_path_enabled && cv_current_trace() == NULL ? eligible(operand) : NULL;
    if (array == NULL || loops[array->fast] == NULL)
        return call_hook(op, operand, NULL);
    void *out;
    PyArrayObject *value =
        cv_new_ndarray(result_descr(array->fast, false), PyArray_NDIM(array->value),
                       PyArray_DIMS(array->value), &out);
    if (value == NULL)
        return NULL;
    loops[array->fast](PyArray_DATA(array->value), out, PyArray_SIZE(array->value));
    return cv_wrap(value, array->weak_type);
}

PyObject *
cv_richcompare(PyObject *lhs, PyObject *rhs, int op)
{
    static const enum cv_operator operators[] = {
        [Py_LT] = CV_LT, [Py_LE] = CV_LE, [Py_EQ] = CV_EQ,
        [Py_NE] = CV_NE, [Py_GT] = CV_GT, [Py_GE] = CV_GE};
    return binary(operators[op], lhs, rhs);
}

/* ---- slots ---- */

#define BINARY_SLOT(name, op)                                                                     \
    static PyObject *name##_slot(PyObject *lhs, PyObject *rhs)                                    \
    {                                                                                             \
        return binary(op, lhs, rhs);                                                              \
    }
#define HOOK_SLOT(name, op)                                                                       \
    static PyObject *name##_slot(PyObject *lhs, PyObject *rhs)                                    \
    {                                                                                             \
        return call_hook(op, lhs, rhs);                                                           \
    }
#define UNARY_HOOK_SLOT(name, op)                                                                 \
    static PyObject *name##_slot(PyObject *operand)                                               \
    {                                                                                             \
        return call_hook(op, operand, NULL);                                                      \
    }

BINARY_SLOT(add, CV_ADD)
BINARY_SLOT(subtract, CV_SUB)
BINARY_SLOT(multiply, CV_MUL)
BINARY_SLOT(true_divide, CV_TRUEDIV)
HOOK_SLOT(floor_divide, CV_FLOORDIV)
HOOK_SLOT(remainder, CV_MOD)
HOOK_SLOT(divmod, CV_DIVMOD)
HOOK_SLOT(matrix_multiply, CV_MATMUL)
HOOK_SLOT(and, CV_AND)
HOOK_SLOT(or, CV_OR)
HOOK_SLOT(xor, CV_XOR)
HOOK_SLOT(lshift, CV_LSHIFT)
HOOK_SLOT(rshift, CV_RSHIFT)
UNARY_HOOK_SLOT(positive, CV_POS)
UNARY_HOOK_SLOT(invert, CV_INVERT)

static PyObject *
negative_slot(PyObject *operand)
{
    return unary(CV_NEG, cv_negative_loops, operand);
}

static PyObject *
absolute_slot(PyObject *operand)
{
    return unary(CV_ABS, cv_absolute_loops, operand);
}

/* x ** 2 of a float array is x * x. */
static PyObject *
power_slot(PyObject *lhs, PyObject *rhs, PyObject *modulus)
{
    if (!Py_IsNone(modulus))
        Py_RETURN_NOTIMPLEMENTED;
    int overflow;
    CvArray *base = PyLong_CheckExact(rhs) ? eligible(lhs) : NULL;
    if (base != NULL && base->fast <= CV_FAST_F64 &&
        PyLong_AsLongAndOverflow(rhs, &overflow) == 2) {
        PyObject *square = fast_binary(CV_MUL, lhs, lhs);
        if (square != NULL || PyErr_Occurred())
            return square;
    }
    return call_hook(CV_POW, lhs, rhs);
}

PyNumberMethods cv_number_methods = {
    .nb_add = add_slot,
    .nb_subtract = subtract_slot,
    .nb_multiply = multiply_slot,
    .nb_true_divide = true_divide_slot,
    .nb_floor_divide = floor_divide_slot,
    .nb_remainder = remainder_slot,
    .nb_divmod = divmod_slot,
    .nb_power = power_slot,
    .nb_matrix_multiply = matrix_multiply_slot,
    .nb_and = and_slot,
    .nb_or = or_slot,
    .nb_xor = xor_slot,
    .nb_lshift = lshift_slot,
    .nb_rshift = rshift_slot,
    .nb_negative = negative_slot,
    .nb_positive = positive_slot,
    .nb_absolute = absolute_slot,
    .nb_invert = invert_slot,
};

/* ---- module functions ---- */

static PyObject *
register_operator_hook(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name;
    PyObject *hook;
    if (!PyArg_ParseTuple(args, "sO:register_operator_hook", &name, &hook))
        return NULL;
    if (!Py_IsNone(hook) && !PyCallable_Check(hook)) {
        PyErr_Format(PyExc_TypeError, "the hook of operator '%s' must be callable or None, got %R",
                     name, hook);
        return NULL;
    }
    for (int op = 0; op < CV_OPERATOR_COUNT; op++) {
        if (strcmp(name, operator_names[op]) == 0) {
            PyObject *previous = hooks[op];
            hooks[op] = Py_IsNone(hook) ? NULL : Py_NewRef(hook);
            return previous == NULL ? Py_NewRef(Py_None) : previous;
        }
    }
    PyErr_Format(PyExc_ValueError, "there is no operator '%s'", name);
    return NULL;
}

static PyObject *
set_eager_fast_path(PyObject *Py_UNUSED(module), PyObject *value)
{
    int enabled = PyObject_IsTrue(value);
    if (enabled < 0)
        return NULL;
    bool previous = fast_path_enabled;
    fast_path_enabled = enabled;
    return PyBool_FromLong(previous);
}

PyMethodDef cv_operator_methods[] = {
    {"register_operator_hook", register_operator_hook, METH_VARARGS,
     PyDoc_STR("register_operator_hook(name, hook) -> hook | None\n\nThe function behind an "
               "operator, called with both operands in order (one for neg, pos, abs, invert) "
               "wherever the fast path does not apply. It may return NotImplemented. None removes "
               "the hook. Returns the previous one.")},
    {"set_eager_fast_path", set_eager_fast_path, METH_O,
     PyDoc_STR("set_eager_fast_path(enabled) -> bool\n\nSwitch the loops in C off, so that every "
               "operation reaches its hook (to look for NaNs, say). Returns the previous state.")},
    {NULL},
};
