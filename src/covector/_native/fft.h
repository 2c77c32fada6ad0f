/* Plans of Fourier transforms: how a length is factored, and the roots of unity that takes. */
#ifndef COVECTOR_FFT_H
#define COVECTOR_FFT_H

#include "covector.h"

#include <stdatomic.h>

enum {
    FFT_MAX_PASSES = 64,
    FFT_MAX_RADIX = 61, /* a larger prime factor needs a convolution */
    FFT_LONG = 2048     /* from this length on transforms are made in two steps */
};

/* One pass splits each of the remaining transforms into `radix` ones of length `m`. */
typedef struct {
    int64_t radix, m;
    int64_t twiddles; /* where those of the pass begin: (radix - 1) rows of m */
    int64_t roots;    /* where the roots of unity of order `radix` begin, for a generic radix */
} CvPass;

/* Complex tables have `count` real parts, then as many imaginary ones, of the plan's type. */
typedef struct {
    int64_t count;
    void *values;
} CvTable;

typedef struct CvPlan {
    int64_t n;
    bool is_double, halves;
    atomic_int references; /* one for the cache, and one for each transform at work */
    uint64_t last_use;
    size_t bytes;
    int passes;
    CvPass pass[FFT_MAX_PASSES];
    CvTable twiddles;
    /* A convolution (Bluestein): transforms of length `inner->n`, else NULL. The spectrum is that
     * of the conjugate chirp, divided by that length. */
    CvTable chirp, spectrum;
    /* A real transform of even length: `inner` has half the length; roots of order n. */
    CvTable roots;
    struct CvPlan *inner;
    /* A long transform in two steps, else NULL: of the columns of a matrix, then of its rows, with
     * twiddles in between, one for each element. */
    struct CvPlan *columns, *rows;
} CvPlan;

/* A plan for complex transforms of n elements, or for real ones of an even n; NULL if memory is
 * short. Neither function needs the interpreter lock. */
CvPlan *cv_plan_acquire(int64_t n, bool is_double, bool halves);
void cv_plan_release(CvPlan *plan);

/* fft.c: replaces a table of plan->n elements by its transform; false if memory is short. */
bool cv_transform_table(const CvPlan *plan, CvTable table);

#endif
