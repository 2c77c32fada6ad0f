/* covector._native: the module. */
#define COVECTOR_IMPORT_NUMPY
#include "covector.h"

static PyMethodDef *const method_tables[] = {
    cv_trace_methods, cv_source_methods, cv_memory_methods, cv_array_methods, cv_operator_methods,
    cv_symbol_methods, cv_blas_methods, cv_pool_methods, cv_image_methods,
    cv_debugger_methods, cv_library_methods,
};

typedef int (*Initialiser)(PyObject *module);
static const Initialiser initialisers[] = {cv_trace_init, cv_memory_init, cv_array_init,
                                           cv_pool_init};

static int
add_types(PyObject *module)
{
    PyTypeObject *const types[] = {&CvArray_Type, &CvExecutable_Type, &CvDispatcher_Type,
                                   &CvImage_Type};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++)
        if (PyModule_AddType(module, types[i]) < 0)
            return -1;
    return 0;
}

static int
execute(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "covector cannot be used in subinterpreters");
        return -1;
    }
    if (PyArray_ImportNumPyAPI() < 0)
        return -1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(initialisers); i++)
        if (initialisers[i](module) < 0)
            return -1;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(method_tables); i++)
        if (PyModule_AddFunctions(module, method_tables[i]) < 0)
            return -1;
    return add_types(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "covector._native",
    .m_doc = PyDoc_STR("Covector's native runtime: arrays, dispatch, what generated code calls."),
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
