/* How Fourier transforms are read from and written to arrays, for one floating-point type: included
 * by fft.c after fft_kernels.h. Complex numbers are pairs in memory, and split at work. Element k
 * of lane q is `step * k + lane_step * q` complex numbers from the first. */

WIDE static void
NAME(split)(const REAL *restrict from, REAL *restrict re, REAL *restrict im, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        re[i] = from[2 * i];
        im[i] = from[2 * i + 1];
    }
}

WIDE static void
NAME(join)(const REAL *restrict re, const REAL *restrict im, REAL *restrict to, int64_t count,
           REAL scale)
{
    for (int64_t i = 0; i < count; i++) {
        to[2 * i] = re[i] * scale;
        to[2 * i + 1] = im[i] * scale;
    }
}

static void
NAME(read_complex)(const REAL *from, int64_t step, int64_t lane_step, Split x, int64_t n,
                   int64_t lanes)
{
    if (lanes == 1 && step == 1) {
        NAME(split)(from, x.re, x.im, n);
    } else if (lane_step == 1) {
        for (int64_t k = 0; k < n; k++)
            NAME(split)(from + 2 * step * k, x.re + k * lanes, x.im + k * lanes, lanes);
    } else {
        for (int64_t q = 0; q < lanes; q++)
            for (int64_t k = 0; k < n; k++) {
                const REAL *element = from + 2 * (step * k + lane_step * q);
                x.re[k * lanes + q] = element[0];
                x.im[k * lanes + q] = element[1];
            }
    }
}

static void
NAME(write_complex)(Split x, REAL *to, int64_t step, int64_t lane_step, int64_t n, int64_t lanes,
                    REAL scale)
{
    if (lanes == 1 && step == 1) {
        NAME(join)(x.re, x.im, to, n, scale);
    } else if (lane_step == 1) {
        for (int64_t k = 0; k < n; k++)
            NAME(join)(x.re + k * lanes, x.im + k * lanes, to + 2 * step * k, lanes, scale);
    } else {
        for (int64_t q = 0; q < lanes; q++)
            for (int64_t k = 0; k < n; k++) {
                REAL *element = to + 2 * (step * k + lane_step * q);
                element[0] = x.re[k * lanes + q] * scale;
                element[1] = x.im[k * lanes + q] * scale;
            }
    }
}

/* Rows of n real numbers, one for each lane. */
static void
NAME(read_real)(const REAL *from, Split x, int64_t n, int64_t lanes)
{
    for (int64_t q = 0; q < lanes; q++)
        for (int64_t k = 0; k < n; k++)
            x.re[k * lanes + q] = from[q * n + k];
    memset(x.im, 0, (size_t)(n * lanes) * sizeof(REAL));
}

static void
NAME(write_real)(Split x, REAL *to, int64_t n, int64_t lanes, REAL scale)
{
    for (int64_t q = 0; q < lanes; q++)
        for (int64_t k = 0; k < n; k++)
            to[q * n + k] = x.re[k * lanes + q] * scale;
}

/* The n elements of which rows hold the first n / 2 + 1, the others being their conjugates. That
 * makes the imaginary part of the first meaningless. For an odd n. */
static void
NAME(read_hermitian)(const REAL *from, Split x, int64_t n, int64_t lanes)
{
    for (int64_t q = 0; q < lanes; q++) {
        const REAL *row = from + 2 * q * (n / 2 + 1);
        x.re[q] = row[0];
        x.im[q] = 0;
        for (int64_t k = 1; k <= n / 2; k++) {
            x.re[k * lanes + q] = x.re[(n - k) * lanes + q] = row[2 * k];
            x.im[k * lanes + q] = row[2 * k + 1];
            x.im[(n - k) * lanes + q] = -row[2 * k + 1];
        }
    }
}

/* From z, the transform of pairs of neighbours as complex numbers, to the first half + 1 elements
 * of the transform of the real numbers: with E and O those of the numbers at even and odd places,
 * z = E + i O, and the wanted one is E + w^k O. */
WIDE static void
NAME(write_halves)(const CvPlan *plan, Split z, REAL *to, int64_t lanes)
{
    const int64_t half = plan->n / 2;
    const REAL *wr = plan->roots.values, *wi = wr + plan->roots.count;
    for (int64_t q = 0; q < lanes; q++) {
        REAL *row = to + 2 * q * (half + 1);
        const REAL *re = z.re + q, *im = z.im + q;
        row[0] = re[0] + im[0];
        row[2 * half] = re[0] - im[0];
        row[1] = row[2 * half + 1] = 0;
        for (int64_t k = 1; k <= half - k; k++) {
            const int64_t i = k * lanes, j = (half - k) * lanes;
            const REAL er = (REAL)0.5 * (re[i] + re[j]), ei = (REAL)0.5 * (im[i] - im[j]);
            const REAL ur = (REAL)0.5 * (im[i] + im[j]), ui = (REAL)0.5 * (re[j] - re[i]);
            const REAL tr = ur * wr[k] - ui * wi[k], ti = ur * wi[k] + ui * wr[k];
            row[2 * k] = er + tr;
            row[2 * k + 1] = ei + ti;
            row[2 * (half - k)] = er - tr;
            row[2 * (half - k) + 1] = ti - ei;
        }
    }
}

/* The way back, of twice E + i O. The imaginary parts of the first and last element of a row are
 * meaningless. */
WIDE static void
NAME(read_halves)(const CvPlan *plan, const REAL *from, Split z, int64_t lanes)
{
    const int64_t half = plan->n / 2;
    const REAL *wr = plan->roots.values, *wi = wr + plan->roots.count;
    for (int64_t q = 0; q < lanes; q++) {
        const REAL *row = from + 2 * q * (half + 1);
        REAL *re = z.re + q, *im = z.im + q;
        re[0] = row[0] + row[2 * half];
        im[0] = row[0] - row[2 * half];
        for (int64_t k = 1; k <= half - k; k++) {
            const int64_t i = k * lanes, j = (half - k) * lanes, opposite = 2 * (half - k);
            const REAL er = row[2 * k] + row[opposite], ei = row[2 * k + 1] - row[opposite + 1];
            const REAL tr = row[2 * k] - row[opposite], ti = row[2 * k + 1] + row[opposite + 1];
            const REAL ur = tr * wr[k] + ti * wi[k], ui = ti * wr[k] - tr * wi[k];
            re[i] = er - ui;
            im[i] = ei + ur;
            re[j] = er + ui;
            im[j] = ur - ei;
        }
    }
}

/* ---- whole arrays ---- */

typedef struct {
    cv_context *ctx;
    CvPlan *plan;
    void *memory;
    Split x, y, extra;
    int64_t lanes;     /* how many transforms at most are made side by side */
    int64_t unchecked; /* elements since the last look for interruption */
} NAME(Job);

static int32_t
NAME(start)(NAME(Job) *job, cv_context *ctx, int64_t n, bool halves, int64_t count, bool strided)
{
    *job = (NAME(Job)){.ctx = ctx, .plan = cv_plan_acquire(n, sizeof(REAL) == 8, halves)};
    if (job->plan == NULL)
        return CV_OUT_OF_MEMORY;
    const int64_t length = work_length(job->plan);
    job->lanes = choose_lanes(length, LANES, count, strided);
    const int64_t room = padded(length * job->lanes, sizeof(REAL));
    const int64_t more = padded(2 * extra_length(job->plan) * LANES, sizeof(REAL));
    REAL *part = cv_block_acquire((size_t)(4 * room + 2 * more) * sizeof(REAL));
    if (part == NULL) {
        cv_plan_release(job->plan);
        return CV_OUT_OF_MEMORY;
    }
    job->memory = part;
    job->x = (Split){part, part + room};
    job->y = (Split){part + 2 * room, part + 3 * room};
    job->extra = (Split){part + 4 * room, part + 4 * room + more};
    return 0;
}

static void
NAME(finish)(NAME(Job) *job)
{
    cv_block_release(job->memory);
    cv_plan_release(job->plan);
}

static bool
NAME(cancelled)(NAME(Job) *job, int64_t lanes)
{
    job->unchecked += job->plan->n * lanes;
    if (job->unchecked < POLL_ELEMENTS || job->ctx == NULL)
        return false;
    job->unchecked = 0;
    return cv_poll(job->ctx) != 0;
}

static Split
NAME(swap)(Split x, bool wanted)
{
    return wanted ? (Split){x.im, x.re} : x;
}

static int32_t
NAME(fft)(cv_context *ctx, int64_t outer, int64_t n, int64_t inner, REAL *data, int64_t inverse)
{
    if (outer <= 0 || n <= 0 || inner <= 0)
        return 0;
    /* Rows lie behind one another; columns are done side by side. */
    const bool strided = inner > 1;
    const int64_t groups = strided ? outer : 1, count = strided ? inner : outer;
    const int64_t step = inner, lane_step = strided ? 1 : n;
    NAME(Job) job;
    int32_t code = NAME(start)(&job, ctx, n, false, count, strided);
    if (code != 0)
        return code;
    const REAL scale = inverse ? (REAL)(1.0 / (double)n) : 1;
    for (int64_t group = 0; group < groups; group++)
        for (int64_t first = 0; first < count && code == 0; first += job.lanes) {
            const int64_t lanes = smaller(job.lanes, count - first);
            REAL *place = data + 2 * (group * n * inner + first * lane_step);
            NAME(read_complex)(place, step, lane_step, NAME(swap)(job.x, inverse), n, lanes);
            Split result = NAME(run)(job.plan, job.x, job.y, lanes, job.extra);
            NAME(write_complex)(NAME(swap)(result, inverse), place, step, lane_step, n, lanes,
                                scale);
            code = NAME(cancelled)(&job, lanes) ? CV_CANCELLED : 0;
        }
    NAME(finish)(&job);
    return code;
}

static int32_t
NAME(rfft)(cv_context *ctx, int64_t rows, int64_t n, const REAL *in, REAL *out)
{
    if (rows <= 0 || n <= 0)
        return 0;
    const bool halves = n % 2 == 0;
    NAME(Job) job;
    int32_t code = NAME(start)(&job, ctx, n, halves, rows, false);
    if (code != 0)
        return code;
    for (int64_t row = 0; row < rows && code == 0; row += job.lanes) {
        const int64_t lanes = smaller(job.lanes, rows - row);
        const REAL *from = in + row * n;
        REAL *to = out + 2 * row * (n / 2 + 1);
        if (halves) {
            NAME(read_complex)(from, 1, n / 2, job.x, n / 2, lanes);
            Split z = NAME(run)(job.plan->inner, job.x, job.y, lanes, job.extra);
            NAME(write_halves)(job.plan, z, to, lanes);
        } else {
            NAME(read_real)(from, job.x, n, lanes);
            Split z = NAME(run)(job.plan, job.x, job.y, lanes, job.extra);
            NAME(write_complex)(z, to, 1, n / 2 + 1, n / 2 + 1, lanes, 1);
        }
        code = NAME(cancelled)(&job, lanes) ? CV_CANCELLED : 0;
    }
    NAME(finish)(&job);
    return code;
}

static int32_t
NAME(irfft)(cv_context *ctx, int64_t rows, int64_t n, const REAL *in, REAL *out)
{
    if (rows <= 0 || n <= 0)
        return 0;
    const bool halves = n % 2 == 0;
    const REAL scale = (REAL)(1.0 / (double)n);
    NAME(Job) job;
    int32_t code = NAME(start)(&job, ctx, n, halves, rows, false);
    if (code != 0)
        return code;
    for (int64_t row = 0; row < rows && code == 0; row += job.lanes) {
        const int64_t lanes = smaller(job.lanes, rows - row);
        const REAL *from = in + 2 * row * (n / 2 + 1);
        const Split x = {job.x.im, job.x.re}; /* exchanged: a transform backwards */
        if (halves) {
            NAME(read_halves)(job.plan, from, x, lanes);
            Split z = NAME(run)(job.plan->inner, job.x, job.y, lanes, job.extra);
            NAME(write_complex)((Split){z.im, z.re}, out + row * n, 1, n / 2, n / 2, lanes, scale);
        } else {
            NAME(read_hermitian)(from, x, n, lanes);
            Split z = NAME(run)(job.plan, job.x, job.y, lanes, job.extra);
            NAME(write_real)((Split){z.im, z.re}, out + row * n, n, lanes, scale);
        }
        code = NAME(cancelled)(&job, lanes) ? CV_CANCELLED : 0;
    }
    NAME(finish)(&job);
    return code;
}

#undef Split
