/* Image: linked code in memory, and which machine this is.
 *
 * Image(code, addresses=(), relative=())
 *
 * `code` is copied into pages of its own. Each pair (offset, address) of `addresses` is written as
 * a 64-bit word, each pair (offset, addend) of `relative` as the image's address plus the addend.
 * Then the pages become executable and nothing can write to them; they go with the object. */
#include "covector.h"

#include <stddef.h>
#include <structmember.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__)
#include <sys/auxv.h>
#endif

typedef struct {
    PyObject_HEAD
    void *address;
    size_t mapped;
    Py_ssize_t size;
} Image;

/* ---- construction ---- */

static int
write_words(Image *self, PyObject *pairs, uintptr_t base)
{
    PyObject *items = pairs == NULL ? PyTuple_New(0) : PySequence_Tuple(pairs);
    if (items == NULL)
        return -1;
    int failed = 0;
    for (Py_ssize_t i = 0; !failed && i < PyTuple_GET_SIZE(items); i++) {
        Py_ssize_t offset;
        unsigned long long value;
        PyObject *pair = PyTuple_GET_ITEM(items, i);
        failed = !PyTuple_Check(pair);
        if (failed)
            PyErr_SetString(PyExc_TypeError, "expected pairs (offset, value)");
        else
            failed = !PyArg_ParseTuple(pair, "nK;expected pairs (offset, value)", &offset, &value);
        if (!failed && (offset < 0 || offset > self->size - (Py_ssize_t)sizeof(uint64_t))) {
            PyErr_Format(PyExc_ValueError, "offset %zd is outside of the code", offset);
            failed = 1;
        }
        if (!failed) {
            uint64_t word = (uint64_t)value + base;
            memcpy((char *)self->address + offset, &word, sizeof word);
        }
    }
    Py_DECREF(items);
    return failed ? -1 : 0;
}

static int
map_code(Image *self, const Py_buffer *code)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t mapped = ((size_t)code->len + page - 1) / page * page;
    void *address =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    self->address = address;
    self->mapped = mapped;
    self->size = code->len;
    memcpy(address, code->buf, (size_t)code->len);
    return 0;
}

static int
make_executable(Image *self)
{
    char *begin = self->address;
    __builtin___clear_cache(begin, begin + self->mapped);
    if (mprotect(self->address, self->mapped, PROT_READ | PROT_EXEC) == 0)
        return 0;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static PyObject *
image_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"code", "addresses", "relative", NULL};
    Py_buffer code;
    PyObject *addresses = NULL, *relative = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y*|OO:Image", names, &code, &addresses,
                                     &relative))
        return NULL;
    Image *self = NULL;
    if (code.len == 0)
        PyErr_SetString(PyExc_ValueError, "there is no code");
    else
        self = (Image *)type->tp_alloc(type, 0);
    if (self != NULL
        && (map_code(self, &code) < 0 || write_words(self, addresses, 0) < 0
            || write_words(self, relative, (uintptr_t)self->address) < 0
            || make_executable(self) < 0))
        Py_CLEAR(self);
    PyBuffer_Release(&code);
    return (PyObject *)self;
}

static void
image_dealloc(Image *self)
{
    if (self->address != NULL)
        munmap(self->address, self->mapped);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
image_address(Image *self, void *Py_UNUSED(closure))
{
    return PyLong_FromVoidPtr(self->address);
}

static PyMemberDef image_members[] = {
    {"size", T_PYSSIZET, offsetof(Image, size), READONLY, PyDoc_STR("bytes of code")},
    {NULL},
};

static PyGetSetDef image_getset[] = {
    {"address", (getter)image_address, NULL, PyDoc_STR("where the code begins"), NULL},
    {NULL},
};

PyTypeObject CvImage_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "covector._native.Image",
    .tp_doc = PyDoc_STR("Image(code, addresses=(), relative=())\n\nLinked code in memory."),
    .tp_basicsize = sizeof(Image),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = image_new,
    .tp_dealloc = (destructor)image_dealloc,
    .tp_members = image_members,
    .tp_getset = image_getset,
};

/* ---- the machine ---- */

/* What the processor says of itself, without what differs from core to core. */
static PyObject *
processor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    uint32_t words[20] = {0};
#if defined(__x86_64__)
    static const uint32_t leaves[][2] = {{0, 0}, {1, 0}, {7, 0}, {7, 1}, {0x80000001u, 0}};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(leaves); i++) {
        uint32_t *w = words + 4 * i;
        __get_cpuid_count(leaves[i][0], leaves[i][1], w, w + 1, w + 2, w + 3);
        if (leaves[i][0] == 1)
            w[1] = 0; /* the number of this core */
    }
    uint32_t low = 0, high = 0;
    if (words[6] & bit_OSXSAVE) /* which registers the system saves decides what can be used */
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    words[5] = low ^ high;
#elif defined(__linux__)
    uint64_t capabilities[2] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
    memcpy(words, capabilities, sizeof capabilities);
#endif
    return PyBytes_FromStringAndSize((const char *)words, sizeof words);
}

PyMethodDef cv_image_methods[] = {
    {"processor", processor, METH_NOARGS,
     PyDoc_STR("processor() -> bytes\n\nEqual on machines that can run the same code.")},
    {NULL},
};
