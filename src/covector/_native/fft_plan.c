/* Plans of Fourier transforms, see fft.h, and a cache of them. */
#include "fft.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

static const double PI = 3.14159265358979323846;

/* ---- tables ---- */

static bool
new_table(CvPlan *plan, CvTable *table, int64_t count)
{
    size_t item = plan->is_double ? sizeof(double) : sizeof(float);
    *table = (CvTable){.count = count};
    if ((uint64_t)count > SIZE_MAX / 8 / item)
        return false;
    size_t bytes = 2 * item * (size_t)(count > 0 ? count : 1);
    table->values = malloc(bytes);
    plan->bytes += bytes;
    return table->values != NULL;
}

static void
put(const CvPlan *plan, CvTable table, int64_t i, double re, double im)
{
    if (plan->is_double) {
        double *values = table.values;
        values[i] = re;
        values[table.count + i] = im;
    } else {
        float *values = table.values;
        values[i] = (float)re;
        values[table.count + i] = (float)im;
    }
}

/* exp(-2 pi i k / n) for 0 <= k <= n / 2, from an angle of at most pi / 4. */
static void
root(int64_t k, int64_t n, double *re, double *im)
{
    double unit = PI / (double)n;
    if (8 * k <= n) {
        double x = 2 * unit * (double)k;
        *re = cos(x);
        *im = -sin(x);
    } else if (8 * k <= 3 * n) {
        double x = unit * (double)(n - 4 * k) / 2; /* pi / 2 - the angle */
        *re = sin(x);
        *im = -cos(x);
    } else {
        double x = unit * (double)(n - 2 * k); /* pi - the angle */
        *re = -cos(x);
        *im = -sin(x);
    }
}

/* exp(-2 pi i k / n) for all k below n; the symmetries of the circle give most of them. NULL if
 * memory is short. Imaginary parts follow the real ones. */
static double *
all_roots(int64_t n)
{
    if ((uint64_t)n > SIZE_MAX / 4 / sizeof(double))
        return NULL;
    double *re = malloc(2 * (size_t)n * sizeof(double)), *im = re + n;
    if (re == NULL)
        return NULL;
    int64_t first = n % 4 == 0 ? n / 8 : n % 2 == 0 ? n / 4 : n / 2, k = 0;
    for (; k <= first && k < n; k++)
        root(k, n, &re[k], &im[k]);
    for (; n % 4 == 0 && k <= n / 4; k++) {
        re[k] = -im[n / 4 - k];
        im[k] = -re[n / 4 - k];
    }
    for (; n % 2 == 0 && k <= n / 2; k++) {
        re[k] = -re[n / 2 - k];
        im[k] = im[n / 2 - k];
    }
    for (; k < n; k++) {
        re[k] = re[n - k];
        im[k] = -im[n - k];
    }
    return re;
}

/* ---- passes ---- */

/* In the order of the passes: powers of 2 first, so that neighbours soon move together. */
static int
factors_of(int64_t n, int64_t *factors)
{
    int count = 0;
    int64_t odd = n;
    int twos = 0;
    for (; odd % 2 == 0; odd /= 2)
        twos++;
    int fours = twos % 3 == 1 ? (twos >= 4 ? 2 : 0) : twos % 3 == 2 ? 1 : 0;
    int eights = (twos - 2 * fours) / 3;
    for (int i = 0; i < fours; i++)
        factors[count++] = 4;
    for (int i = 0; i < eights; i++)
        factors[count++] = 8;
    if (twos - 2 * fours - 3 * eights > 0)
        factors[count++] = 2;
    for (int64_t prime = 3; prime <= FFT_MAX_RADIX; prime += 2)
        for (; odd % prime == 0; odd /= prime)
            factors[count++] = prime;
    if (odd > 1)
        factors[count++] = odd;
    return count;
}

/* About how many operations per element the passes cost. */
static double
cost(int64_t n)
{
    int64_t factors[FFT_MAX_PASSES];
    double total = 0;
    int count = factors_of(n, factors);
    for (int i = 0; i < count; i++) {
        double radix = (double)factors[i];
        total += factors[i] <= 5 || factors[i] == 8 ? 2 + 3 * log2(radix) : 12 + 3 * radix;
    }
    return total;
}

static int64_t
convolution_length(int64_t n)
{
    int64_t best = INT64_MAX;
    const int64_t odd[] = {1, 3, 5, 9, 15, 25, 27};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(odd); i++) {
        int64_t length = odd[i];
        while (length < 2 * n - 1)
            length *= 2;
        if (length < best)
            best = length;
    }
    return best;
}

static bool
needs_convolution(int64_t n)
{
    int64_t factors[FFT_MAX_PASSES], largest = 1;
    int count = factors_of(n, factors);
    for (int i = 0; i < count; i++)
        largest = factors[i] > largest ? factors[i] : largest;
    if (largest <= 13 || largest > FFT_MAX_RADIX)
        return largest > 13;
    int64_t length = convolution_length(n);
    return 2 * cost(length) * (double)length / (double)n + 20 < cost(n);
}

static void
put_twiddles(CvPlan *plan, const CvPass *pass, const double *roots)
{
    /* Neighbouring rows and columns are this many roots of order n apart. */
    int64_t step = plan->n / (pass->radix * pass->m);
    for (int64_t k = 1; k < pass->radix; k++)
        for (int64_t p = 0; p < pass->m; p++) {
            int64_t i = step * k * p;
            put(plan, plan->twiddles, pass->twiddles + (k - 1) * pass->m + p, roots[i],
                roots[plan->n + i]);
        }
    for (int64_t k = 0; pass->roots >= 0 && k < pass->radix; k++) {
        int64_t i = plan->n / pass->radix * k;
        put(plan, plan->twiddles, pass->roots + k, roots[i], roots[plan->n + i]);
    }
}

static bool
plan_passes(CvPlan *plan)
{
    int64_t factors[FFT_MAX_PASSES], used = 0, m = plan->n;
    plan->passes = factors_of(plan->n, factors);
    for (int i = 0; i < plan->passes; i++) {
        CvPass *pass = &plan->pass[i];
        pass->radix = factors[i];
        m /= factors[i];
        pass->m = m;
        pass->twiddles = used;
        used += (factors[i] - 1) * m;
        pass->roots = -1;
        if (factors[i] > 5 && factors[i] != 8) {
            pass->roots = used;
            used += factors[i];
        }
    }
    double *roots = all_roots(plan->n);
    bool ok = roots != NULL && new_table(plan, &plan->twiddles, used);
    for (int i = 0; ok && i < plan->passes; i++)
        put_twiddles(plan, &plan->pass[i], roots);
    free(roots);
    return ok;
}

/* ---- plans ---- */

static void
free_plan(CvPlan *plan)
{
    if (plan == NULL)
        return;
    free_plan(plan->inner);
    free_plan(plan->columns);
    free_plan(plan->rows);
    free(plan->twiddles.values);
    free(plan->chirp.values);
    free(plan->spectrum.values);
    free(plan->roots.values);
    free(plan);
}

static CvPlan *new_plan(int64_t n, bool is_double, bool halves);

static CvPlan *
empty_plan(int64_t n, bool is_double)
{
    CvPlan *plan = calloc(1, sizeof *plan);
    if (plan == NULL)
        return NULL;
    plan->n = n;
    plan->is_double = is_double;
    plan->bytes = sizeof *plan;
    atomic_init(&plan->references, 1);
    return plan;
}

/* The largest divisor that is not above the square root. */
static int64_t
nearest_divisor(int64_t n)
{
    int64_t divisor = (int64_t)sqrt((double)n);
    while (divisor > 1 && (n % divisor != 0 || divisor > n / divisor))
        divisor--;
    return divisor;
}

static CvPlan *
plan_part(int64_t n, bool is_double)
{
    CvPlan *plan = empty_plan(n, is_double);
    if (plan != NULL && !plan_passes(plan)) {
        free_plan(plan);
        return NULL;
    }
    return plan;
}

/* In two steps: element j1 * rows + j2 of the operand, element k1 + columns * k2 of the result. */
static bool
plan_steps(CvPlan *plan, int64_t columns)
{
    const int64_t n = plan->n, rows = n / columns;
    double *roots = new_table(plan, &plan->twiddles, n) ? all_roots(n) : NULL;
    if (roots != NULL) {
        plan->columns = plan_part(columns, plan->is_double);
        plan->rows = plan_part(rows, plan->is_double);
    }
    if (plan->columns == NULL || plan->rows == NULL) {
        free(roots);
        return false;
    }
    plan->bytes += plan->columns->bytes + plan->rows->bytes;
    for (int64_t i = 0; i < n; i++) {
        int64_t power = i / rows * (i % rows);
        put(plan, plan->twiddles, i, roots[power], roots[n + power]);
    }
    free(roots);
    return true;
}

static bool
plan_smooth(CvPlan *plan)
{
    int64_t columns = plan->n < FFT_LONG ? 1 : nearest_divisor(plan->n);
    return columns < 16 ? plan_passes(plan) : plan_steps(plan, columns);
}

/* The chirp exp(-pi i k^2 / n), and the spectrum of its conjugate laid around a circle. */
static bool
plan_convolution(CvPlan *plan)
{
    int64_t n = plan->n, length = convolution_length(n);
    /* What cannot be had for want of memory is found out before much is done. */
    if (!new_table(plan, &plan->chirp, n) || !new_table(plan, &plan->spectrum, length))
        return false;
    plan->inner = new_plan(length, plan->is_double, false);
    if (plan->inner == NULL)
        return false;
    plan->bytes += plan->inner->bytes;
    for (int64_t k = n; k <= length - n; k++)
        put(plan, plan->spectrum, k, 0, 0);
    int64_t square = 0; /* k^2 modulo 2 n */
    for (int64_t k = 0; k < n; k++) {
        double re, im, scale = 1.0 / (double)length;
        root(square <= n ? square : 2 * n - square, 2 * n, &re, &im);
        if (square > n)
            im = -im;
        put(plan, plan->chirp, k, re, im);
        put(plan, plan->spectrum, k, re * scale, -im * scale);
        if (k > 0)
            put(plan, plan->spectrum, length - k, re * scale, -im * scale);
        square = (square + 2 * k + 1) % (2 * n);
    }
    return cv_transform_table(plan->inner, plan->spectrum);
}

static bool
plan_halves(CvPlan *plan)
{
    int64_t n = plan->n, half = n / 2;
    if (!new_table(plan, &plan->roots, half / 2 + 1))
        return false;
    plan->inner = new_plan(half, plan->is_double, false);
    if (plan->inner == NULL)
        return false;
    plan->bytes += plan->inner->bytes;
    for (int64_t k = 0; k <= half / 2; k++) {
        double re, im;
        root(k, n, &re, &im);
        put(plan, plan->roots, k, re, im);
    }
    return true;
}

static CvPlan *
new_plan(int64_t n, bool is_double, bool halves)
{
    CvPlan *plan = n > INT64_MAX / 64 ? NULL : empty_plan(n, is_double);
    if (plan == NULL)
        return NULL;
    plan->halves = halves;
    bool ok = halves                 ? plan_halves(plan)
              : needs_convolution(n) ? plan_convolution(plan)
                                     : plan_smooth(plan);
    if (!ok) {
        free_plan(plan);
        return NULL;
    }
    return plan;
}

/* ---- the cache ---- */

enum { CACHE_SLOTS = 32 };

static const size_t CACHE_LIMIT = (size_t)64 << 20;

static struct {
    atomic_flag busy;
    uint64_t clock;
    size_t held;
    CvPlan *plans[CACHE_SLOTS];
} cache = {.busy = ATOMIC_FLAG_INIT};

/* As in memory.c the lock is only ever tried: who does not get it makes a plan for itself. */
static bool
lock_cache(void)
{
    for (int attempt = 0; attempt < 1000; attempt++)
        if (!atomic_flag_test_and_set_explicit(&cache.busy, memory_order_acquire))
            return true;
    return false;
}

static void
unlock_cache(void)
{
    atomic_flag_clear_explicit(&cache.busy, memory_order_release);
}

static CvPlan *
find_plan(int64_t n, bool is_double, bool halves)
{
    for (int i = 0; i < CACHE_SLOTS; i++) {
        CvPlan *plan = cache.plans[i];
        if (plan != NULL && plan->n == n && plan->is_double == is_double &&
            plan->halves == halves) {
            plan->last_use = ++cache.clock;
            return plan;
        }
    }
    return NULL;
}

static void
drop(CvPlan *plan)
{
    if (plan != NULL && atomic_fetch_sub(&plan->references, 1) == 1)
        free_plan(plan);
}

/* The slot of the plan that was not used for longest, or (for the first try) an empty one. */
static int
next_slot(bool empty)
{
    int slot = -1;
    for (int i = 0; i < CACHE_SLOTS; i++) {
        const CvPlan *plan = cache.plans[i];
        if (plan == NULL && empty)
            return i;
        if (plan != NULL && (slot < 0 || plan->last_use < cache.plans[slot]->last_use))
            slot = i;
    }
    return slot;
}

/* Puts a plan in the cache; those that have to go for it are to be dropped. */
static int
keep(CvPlan *plan, CvPlan **dropped)
{
    int count = 0;
    while (cache.held + plan->bytes > CACHE_LIMIT) { /* a plan alone never exceeds the limit */
        int slot = next_slot(false);
        cache.held -= cache.plans[slot]->bytes;
        dropped[count++] = cache.plans[slot];
        cache.plans[slot] = NULL;
    }
    int slot = next_slot(true);
    if (cache.plans[slot] != NULL) {
        cache.held -= cache.plans[slot]->bytes;
        dropped[count++] = cache.plans[slot];
    }
    plan->last_use = ++cache.clock;
    atomic_fetch_add(&plan->references, 1);
    cache.plans[slot] = plan;
    cache.held += plan->bytes;
    return count;
}

CvPlan *
cv_plan_acquire(int64_t n, bool is_double, bool halves)
{
    CvPlan *plan = NULL, *dropped[CACHE_SLOTS];
    int count = 0;
    if (lock_cache()) {
        plan = find_plan(n, is_double, halves);
        if (plan != NULL)
            atomic_fetch_add(&plan->references, 1);
        unlock_cache();
    }
    if (plan != NULL)
        return plan;
    plan = new_plan(n, is_double, halves);
    if (plan == NULL || plan->bytes > CACHE_LIMIT / 2 || !lock_cache())
        return plan;
    if (find_plan(n, is_double, halves) == NULL)
        count = keep(plan, dropped);
    unlock_cache();
    for (int i = 0; i < count; i++)
        drop(dropped[i]);
    return plan;
}

void
cv_plan_release(CvPlan *plan)
{
    drop(plan);
}
