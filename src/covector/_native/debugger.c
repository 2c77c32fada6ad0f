/* Debuggers: gdb's interface for code that is made at run time.
 *
 * gdb knows two names. It sets a breakpoint in `__jit_debug_register_code`, and when it is hit
 * reads from `__jit_debug_descriptor` which object file was added to the list or taken out of it.
 *
 * debug_register(file) adds an object file whose sections have the addresses at which they are
 * in memory, and returns what takes it out when it goes. */
#include "covector.h"

#define VISIBLE __attribute__((visibility("default")))

/* gdb's names and layout. */
struct jit_code_entry {
    struct jit_code_entry *next_entry;
    struct jit_code_entry *prev_entry;
    const char *symfile_addr;
    uint64_t symfile_size;
};

struct jit_descriptor {
    uint32_t version;
    uint32_t action_flag;
    struct jit_code_entry *relevant_entry;
    struct jit_code_entry *first_entry;
};

enum { JIT_NOACTION, JIT_REGISTER_FN, JIT_UNREGISTER_FN };

VISIBLE struct jit_descriptor __jit_debug_descriptor = {1, JIT_NOACTION, NULL, NULL};

VISIBLE __attribute__((noinline)) void
__jit_debug_register_code(void)
{
    __asm__ volatile("" ::: "memory"); /* so that no compiler leaves the call out */
}

/* The interpreter lock guards the list. */

typedef struct {
    struct jit_code_entry entry;
    char object[];
} Registration;

static void
tell(struct jit_code_entry *entry, uint32_t action)
{
    __jit_debug_descriptor.relevant_entry = entry;
    __jit_debug_descriptor.action_flag = action;
    __jit_debug_register_code();
    __jit_debug_descriptor.relevant_entry = NULL;
    __jit_debug_descriptor.action_flag = JIT_NOACTION;
}

static void
unregister(PyObject *capsule)
{
    Registration *self = PyCapsule_GetPointer(capsule, NULL);
    struct jit_code_entry *entry = &self->entry;
    if (entry->prev_entry != NULL)
        entry->prev_entry->next_entry = entry->next_entry;
    else
        __jit_debug_descriptor.first_entry = entry->next_entry;
    if (entry->next_entry != NULL)
        entry->next_entry->prev_entry = entry->prev_entry;
    tell(entry, JIT_UNREGISTER_FN);
    PyMem_Free(self);
}

static PyObject *
debug_register(PyObject *Py_UNUSED(module), PyObject *object)
{
    Py_buffer view;
    if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Registration *self = PyMem_Malloc(sizeof(Registration) + (size_t)view.len);
    PyObject *capsule = self == NULL ? PyErr_NoMemory() : PyCapsule_New(self, NULL, unregister);
    if (capsule == NULL) {
        PyMem_Free(self);
        PyBuffer_Release(&view);
        return NULL;
    }
    struct jit_code_entry *first = __jit_debug_descriptor.first_entry;
    memcpy(self->object, view.buf, (size_t)view.len);
    self->entry = (struct jit_code_entry){first, NULL, self->object, (uint64_t)view.len};
    PyBuffer_Release(&view);
    if (first != NULL)
        first->prev_entry = &self->entry;
    __jit_debug_descriptor.first_entry = &self->entry;
    tell(&self->entry, JIT_REGISTER_FN);
    return capsule;
}

static PyObject *
debug_descriptor(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromVoidPtr(&__jit_debug_descriptor);
}

PyMethodDef cv_debugger_methods[] = {
    {"debug_register", debug_register, METH_O,
     PyDoc_STR("debug_register(file) -> capsule\n\n"
               "Shows debuggers an object file until the capsule goes.")},
    {"debug_descriptor", debug_descriptor, METH_NOARGS,
     PyDoc_STR("debug_descriptor() -> int\n\nThe address of what debuggers read.")},
    {NULL},
};
