/* What an executable consists of. */
#ifndef COVECTOR_EXECUTABLE_H
#define COVECTOR_EXECUTABLE_H

#include "covector.h"

typedef struct {
    npy_intp coefficient;
    Py_ssize_t count;
    Py_ssize_t *factors;
} Term;

typedef struct {
    Term *terms;
    Py_ssize_t count;
} Expression;

enum { FREE_WORKSPACES = 2, CACHED_WORKSPACE = 1 << 20 };

struct CvExecutable {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    cv_entry entry;
    PyObject *keepalive;     /* owns the code */
    PyObject *error_handler; /* or NULL */
    PyObject *name;
    CvSpecs inputs, results;
    Py_ssize_t dim_count, expression_count;
    npy_intp *dims; /* -1: read off the inputs */
    Expression *expressions;
    npy_intp workspace_bytes;
    void *workspaces[FREE_WORKSPACES]; /* kept between calls */
    PyObject *constants;               /* tuple of ndarrays */
    void **constant_data;
    CvCallback *callbacks;
    Py_ssize_t callback_count;
    struct {
        Py_ssize_t input; /* whose memory the result may take, or -1 */
        bool holds;       /* the result has the input's elements when the code begins */
    } *donors;            /* per result; NULL if no input is donated */
    PyObject **donated;   /* per input: NULL, or what to say about its Array after the call */
    bool symbolic, release;
};

#endif
