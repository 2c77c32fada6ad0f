/* Tables of C functions for generated code, and access to BLAS and LAPACK. */
#ifndef COVECTOR_SYMBOLS_H
#define COVECTOR_SYMBOLS_H

#include "covector.h"

typedef struct {
    const char *name; /* NULL ends a table */
    void *address;
} CvSymbol;

extern const CvSymbol cv_blas_symbols[], cv_lapack_symbols[], cv_fft_symbols[];

/* The library's functions in their Fortran interface, all of one integer type. */
enum cv_library {
#define CV_FOUR(name) CV_S##name, CV_D##name, CV_C##name, CV_Z##name
    CV_FOUR(GEMM), CV_FOUR(TRSM), CV_FOUR(POTRF), CV_FOUR(GETRF), CV_FOUR(GELQF),
    CV_FOUR(ORGLQ), CV_FOUR(SYEVD), CV_FOUR(GESDD),
#undef CV_FOUR
    CV_LIBRARY_COUNT
};

typedef struct {
    void *address; /* NULL until set_library_function */
    int int_bytes; /* 4 or 8 */
} CvLibraryFunction;

extern CvLibraryFunction cv_library_functions[CV_LIBRARY_COUNT];

/* An integer argument in a variable which can be read as either of the library's types. */
typedef union {
    int64_t wide;
    int32_t narrow;
} CvInteger;

static inline CvInteger
cv_integer(const CvLibraryFunction *function, int64_t value)
{
    CvInteger integer = {.wide = 0};
    if (function->int_bytes == 4)
        integer.narrow = (int32_t)value;
    else
        integer.wide = value;
    return integer;
}

static inline int64_t
cv_integer_value(const CvLibraryFunction *function, CvInteger integer)
{
    return function->int_bytes == 4 ? integer.narrow : integer.wide;
}

/* Whether the function can take numbers as large as `largest`: 0, or an error code. */
static inline int32_t
cv_library_check(const CvLibraryFunction *function, int64_t largest)
{
    if (function->address == NULL)
        return CV_LIBRARY_MISSING;
    return function->int_bytes == 4 && largest > INT32_MAX ? CV_LIBRARY_TOO_LARGE : 0;
}

/* library_threads.c: around each call of the library, which uses the calling thread only then.
 * What the first returns is for the second. */
int cv_library_enter(void);
void cv_library_leave(int before);

/* The code of a call of the library that is one `expression`. */
#define CV_RETURN_ALONE(expression)                                                               \
    do {                                                                                          \
        int before = cv_library_enter();                                                          \
        int32_t code = expression;                                                                \
        cv_library_leave(before);                                                                 \
        return code;                                                                              \
    } while (0)

static inline int64_t
cv_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

#endif
