/* Fourier transforms for one floating-point type: included by fft.c with REAL and NAME defined.
 *
 * Arrays are split: real parts and imaginary parts apart, so that loops over neighbours vectorise.
 * A pass (Stockham's) reads s transforms, side by side, of radix * m elements each, and writes
 * radix * s transforms of m elements: no reordering at the end. `lanes` independent transforms
 * laid side by side are nothing but a pass that begins with s = lanes. */

typedef struct {
    REAL *re, *im;
} NAME(Split);
#define Split NAME(Split)

/* ---- passes ---- */

#define READ(k)                                                                                   \
    const REAL r##k = xr[in + (k) * step];                                                        \
    const REAL i##k = xi[in + (k) * step];
#define WRITE_FIRST(re, im)                                                                       \
    yr[out] = (re);                                                                               \
    yi[out] = (im);
#define WRITE(k, re, im)                                                                          \
    {                                                                                             \
        const REAL a = (re), b = (im), c = wr[((k) - 1) * m + p], d = wi[((k) - 1) * m + p];      \
        yr[out + (k) * s] = a * c - b * d;                                                        \
        yi[out + (k) * s] = a * d + b * c;                                                        \
    }

/* With s = 1 neighbours are those of one transform. */
#define PASS(radix, BUTTERFLY)                                                                    \
    WIDE static void NAME(pass_##radix)(                                                          \
        const REAL *restrict xr, const REAL *restrict xi, REAL *restrict yr, REAL *restrict yi,   \
        int64_t lanes, int64_t m, const REAL *restrict wr, const REAL *restrict wi)               \
    {                                                                                             \
        const int64_t step = lanes * m;                                                           \
        if (lanes == 1) {                                                                         \
            const int64_t s = 1;                                                                  \
            INDEPENDENT                                                                           \
            for (int64_t p = 0; p < m; p++) {                                                     \
                const int64_t in = p, out = (radix)*p;                                            \
                BUTTERFLY                                                                         \
            }                                                                                     \
            return;                                                                               \
        }                                                                                         \
        const int64_t s = lanes;                                                                  \
        for (int64_t p = 0; p < m; p++) {                                                         \
            INDEPENDENT                                                                           \
            for (int64_t q = 0; q < s; q++) {                                                     \
                const int64_t in = q + s * p, out = q + s * (radix)*p;                            \
                BUTTERFLY                                                                         \
            }                                                                                     \
        }                                                                                         \
    }

#define BUTTERFLY_2                                                                               \
    READ(0)                                                                                       \
    READ(1)                                                                                       \
    WRITE_FIRST(r0 + r1, i0 + i1)                                                                 \
    WRITE(1, r0 - r1, i0 - i1)

#define BUTTERFLY_3                                                                               \
    READ(0)                                                                                       \
    READ(1)                                                                                       \
    READ(2)                                                                                       \
    const REAL tr = r1 + r2, ti = i1 + i2;                                                        \
    const REAL dr = (REAL)SIN_60 * (r1 - r2), di = (REAL)SIN_60 * (i1 - i2);                      \
    const REAL cr = r0 - (REAL)0.5 * tr, ci = i0 - (REAL)0.5 * ti;                                \
    WRITE_FIRST(r0 + tr, i0 + ti)                                                                 \
    WRITE(1, cr + di, ci - dr)                                                                    \
    WRITE(2, cr - di, ci + dr)

#define BUTTERFLY_4                                                                               \
    READ(0)                                                                                       \
    READ(1)                                                                                       \
    READ(2)                                                                                       \
    READ(3)                                                                                       \
    const REAL ar = r0 + r2, ai = i0 + i2, br = r0 - r2, bi = i0 - i2;                            \
    const REAL cr = r1 + r3, ci = i1 + i3, dr = r1 - r3, di = i1 - i3;                            \
    WRITE_FIRST(ar + cr, ai + ci)                                                                 \
    WRITE(1, br + di, bi - dr)                                                                    \
    WRITE(2, ar - cr, ai - ci)                                                                    \
    WRITE(3, br - di, bi + dr)

#define BUTTERFLY_5                                                                               \
    READ(0)                                                                                       \
    READ(1)                                                                                       \
    READ(2)                                                                                       \
    READ(3)                                                                                       \
    READ(4)                                                                                       \
    const REAL c1 = (REAL)COS_72, c2 = (REAL)COS_144, s1 = (REAL)SIN_72, s2 = (REAL)SIN_144;      \
    const REAL t1r = r1 + r4, t1i = i1 + i4, d1r = r1 - r4, d1i = i1 - i4;                        \
    const REAL t2r = r2 + r3, t2i = i2 + i3, d2r = r2 - r3, d2i = i2 - i3;                        \
    const REAL m1r = r0 + c1 * t1r + c2 * t2r, m1i = i0 + c1 * t1i + c2 * t2i;                    \
    const REAL m2r = r0 + c2 * t1r + c1 * t2r, m2i = i0 + c2 * t1i + c1 * t2i;                    \
    const REAL n1r = s1 * d1r + s2 * d2r, n1i = s1 * d1i + s2 * d2i;                              \
    const REAL n2r = s2 * d1r - s1 * d2r, n2i = s2 * d1i - s1 * d2i;                              \
    WRITE_FIRST(r0 + t1r + t2r, i0 + t1i + t2i)                                                   \
    WRITE(1, m1r + n1i, m1i - n1r)                                                                \
    WRITE(2, m2r + n2i, m2i - n2r)                                                                \
    WRITE(3, m2r - n2i, m2i + n2r)                                                                \
    WRITE(4, m1r - n1i, m1i + n1r)

/* Sums give the even results, differences (turned by powers of a root of order 8) the odd ones. */
#define BUTTERFLY_8                                                                               \
    READ(0)                                                                                       \
    READ(1)                                                                                       \
    READ(2)                                                                                       \
    READ(3)                                                                                       \
    READ(4)                                                                                       \
    READ(5)                                                                                       \
    READ(6)                                                                                       \
    READ(7)                                                                                       \
    const REAL h = (REAL)SIN_45;                                                                  \
    const REAL s0r = r0 + r4, s0i = i0 + i4, s1r = r1 + r5, s1i = i1 + i5;                        \
    const REAL s2r = r2 + r6, s2i = i2 + i6, s3r = r3 + r7, s3i = i3 + i7;                        \
    const REAL ear = s0r + s2r, eai = s0i + s2i, ebr = s0r - s2r, ebi = s0i - s2i;                \
    const REAL ecr = s1r + s3r, eci = s1i + s3i, edr = s1r - s3r, edi = s1i - s3i;                \
    const REAL d0r = r0 - r4, d0i = i0 - i4, d2r = i2 - i6, d2i = r6 - r2;                        \
    const REAL e1r = r1 - r5, e1i = i1 - i5, e3r = r3 - r7, e3i = i3 - i7;                        \
    const REAL d1r = h * (e1r + e1i), d1i = h * (e1i - e1r);                                      \
    const REAL d3r = h * (e3i - e3r), d3i = -h * (e3i + e3r);                                     \
    const REAL oar = d0r + d2r, oai = d0i + d2i, obr = d0r - d2r, obi = d0i - d2i;                \
    const REAL ocr = d1r + d3r, oci = d1i + d3i, odr = d1r - d3r, odi = d1i - d3i;                \
    WRITE_FIRST(ear + ecr, eai + eci)                                                             \
    WRITE(1, oar + ocr, oai + oci)                                                                \
    WRITE(2, ebr + edi, ebi - edr)                                                                \
    WRITE(3, obr + odi, obi - odr)                                                                \
    WRITE(4, ear - ecr, eai - eci)                                                                \
    WRITE(5, oar - ocr, oai - oci)                                                                \
    WRITE(6, ebr - edi, ebi + edr)                                                                \
    WRITE(7, obr - odi, obi + odr)

PASS(2, BUTTERFLY_2)
PASS(3, BUTTERFLY_3)
PASS(4, BUTTERFLY_4)
PASS(5, BUTTERFLY_5)
PASS(8, BUTTERFLY_8)

#undef READ
#undef WRITE_FIRST
#undef WRITE
#undef PASS
#undef BUTTERFLY_2
#undef BUTTERFLY_3
#undef BUTTERFLY_4
#undef BUTTERFLY_5
#undef BUTTERFLY_8

/* ---- any odd radix ---- */

/* A block of neighbours: sums and differences of elements k and radix - k, for k up to half. */
typedef struct {
    REAL sum_re[FFT_MAX_RADIX / 2 + 1][BLOCK], sum_im[FFT_MAX_RADIX / 2 + 1][BLOCK];
    REAL less_re[FFT_MAX_RADIX / 2 + 1][BLOCK], less_im[FFT_MAX_RADIX / 2 + 1][BLOCK];
    int64_t place[BLOCK], out[BLOCK]; /* which p, and where its first result goes */
} NAME(Block);

/* Stores the k-th results of a block, turned by the twiddles of their places. */
WIDE static void
NAME(put_block)(const NAME(Block) *block, int count, int64_t k, int64_t s, const REAL *restrict re,
                const REAL *restrict im, const REAL *restrict wr, const REAL *restrict wi,
                REAL *restrict yr, REAL *restrict yi)
{
    if (block->place[0] == block->place[count - 1]) {
        const REAL c = wr[block->place[0]], d = wi[block->place[0]];
        REAL *restrict to_re = yr + block->out[0] + k * s;
        REAL *restrict to_im = yi + block->out[0] + k * s;
        for (int j = 0; j < count; j++) {
            to_re[j] = re[j] * c - im[j] * d;
            to_im[j] = re[j] * d + im[j] * c;
        }
        return;
    }
    for (int j = 0; j < count; j++) {
        const REAL c = wr[block->place[j]], d = wi[block->place[j]];
        yr[block->out[j] + k * s] = re[j] * c - im[j] * d;
        yi[block->out[j] + k * s] = re[j] * d + im[j] * c;
    }
}

WIDE static void
NAME(read_block)(NAME(Block) *block, int count, int64_t radix, int64_t step,
                 const REAL *restrict xr, const REAL *restrict xi)
{
    for (int j = 0; j < count; j++) {
        block->sum_re[0][j] = xr[j];
        block->sum_im[0][j] = xi[j];
    }
    for (int64_t k = 1; k <= radix / 2; k++) {
        const REAL *re = xr + k * step, *im = xi + k * step;
        const REAL *other_re = xr + (radix - k) * step, *other_im = xi + (radix - k) * step;
        for (int j = 0; j < count; j++) {
            block->sum_re[k][j] = re[j] + other_re[j];
            block->sum_im[k][j] = im[j] + other_im[j];
            block->less_re[k][j] = re[j] - other_re[j];
            block->less_im[k][j] = im[j] - other_im[j];
        }
    }
}

/* The results j and radix - j of a block without their twiddles: cosines times sums, and sines
 * times differences turned by a quarter. */
WIDE static void
NAME(combine_block)(const NAME(Block) *block, int count, int64_t radix, int64_t j,
                    const REAL *restrict cosines, const REAL *restrict sines, REAL *restrict re,
                    REAL *restrict im, REAL *restrict other_re, REAL *restrict other_im)
{
    REAL even_re[BLOCK], even_im[BLOCK], odd_re[BLOCK], odd_im[BLOCK];
    for (int q = 0; q < count; q++) {
        even_re[q] = block->sum_re[0][q];
        even_im[q] = block->sum_im[0][q];
        odd_re[q] = odd_im[q] = 0;
    }
    int64_t turn = 0;
    for (int64_t k = 1; k <= radix / 2; k++) {
        turn += j;
        if (turn >= radix)
            turn -= radix;
        const REAL c = cosines[turn], d = sines[turn];
        for (int q = 0; q < count; q++) {
            even_re[q] += c * block->sum_re[k][q];
            even_im[q] += c * block->sum_im[k][q];
            odd_re[q] -= d * block->less_im[k][q];
            odd_im[q] += d * block->less_re[k][q];
        }
    }
    for (int q = 0; q < count; q++) {
        re[q] = even_re[q] + odd_re[q];
        im[q] = even_im[q] + odd_im[q];
        other_re[q] = even_re[q] - odd_re[q];
        other_im[q] = even_im[q] - odd_im[q];
    }
}

WIDE static void
NAME(pass_generic)(Split x, Split y, int64_t s, const CvPass *pass, const REAL *wr, const REAL *wi)
{
    const int64_t radix = pass->radix, m = pass->m, step = s * m;
    const REAL *cosines = wr + (pass->roots - pass->twiddles);
    const REAL *sines = wi + (pass->roots - pass->twiddles);
    NAME(Block) block;
    REAL re[BLOCK], im[BLOCK], other_re[BLOCK], other_im[BLOCK];
    for (int64_t first = 0; first < step; first += BLOCK) {
        const int count = (int)(step - first < BLOCK ? step - first : BLOCK);
        for (int j = 0; j < count; j++) {
            block.place[j] = (first + j) / s;
            block.out[j] = (first + j) % s + s * radix * block.place[j];
        }
        NAME(read_block)(&block, count, radix, step, x.re + first, x.im + first);
        for (int j = 0; j < count; j++) {
            REAL total_re = 0, total_im = 0;
            for (int64_t k = 0; k <= radix / 2; k++) {
                total_re += block.sum_re[k][j];
                total_im += block.sum_im[k][j];
            }
            y.re[block.out[j]] = total_re;
            y.im[block.out[j]] = total_im;
        }
        for (int64_t j = 1; j <= radix / 2; j++) {
            const int64_t other = radix - j;
            NAME(combine_block)(&block, count, radix, j, cosines, sines, re, im, other_re,
                                other_im);
            NAME(put_block)(&block, count, j, s, re, im, wr + (j - 1) * m, wi + (j - 1) * m, y.re,
                            y.im);
            NAME(put_block)(&block, count, other, s, other_re, other_im, wr + (other - 1) * m,
                            wi + (other - 1) * m, y.re, y.im);
        }
    }
}

/* ---- whole transforms ---- */

/* From rows to columns. */
WIDE static void
NAME(transpose)(const REAL *restrict from, REAL *restrict to, int64_t rows, int64_t columns)
{
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            to[j * rows + i] = from[i * columns + j];
}

static Split NAME(run)(const CvPlan *plan, Split x, Split y, int64_t lanes, Split extra);

/* Multiplies each row of lanes by an element of a table. */
WIDE static void
NAME(multiply_rows)(Split x, CvTable table, int64_t rows, int64_t lanes)
{
    const REAL *wr = table.values, *wi = wr + table.count;
    for (int64_t k = 0; k < rows; k++) {
        const REAL c = wr[k], d = wi[k];
        REAL *restrict re = x.re + k * lanes, *restrict im = x.im + k * lanes;
        for (int64_t q = 0; q < lanes; q++) {
            const REAL a = re[q], b = im[q];
            re[q] = a * c - b * d;
            im[q] = a * d + b * c;
        }
    }
}

static Split
NAME(shift)(Split x, int64_t elements)
{
    return (Split){x.re + elements, x.im + elements};
}

/* The first of two steps: the columns of a matrix, some neighbours each time, from x to y, times
 * the twiddles. Each element of the matrix has `lanes` lanes. */
WIDE static void
NAME(step_columns)(const CvPlan *plan, Split x, Split y, int64_t lanes, Split a, Split b)
{
    const int64_t n1 = plan->columns->n, n2 = plan->rows->n, stride = n2 * lanes;
    const REAL *wr = plan->twiddles.values, *wi = wr + plan->twiddles.count;
    for (int64_t first = 0, width; first < stride; first += width) {
        width = lanes > 1 ? lanes : smaller(LANES, stride - first);
        for (int64_t k = 0; k < n1; k++) {
            memcpy(a.re + k * width, x.re + k * stride + first, (size_t)width * sizeof(REAL));
            memcpy(a.im + k * width, x.im + k * stride + first, (size_t)width * sizeof(REAL));
        }
        const Split done = NAME(run)(plan->columns, a, b, width, b);
        for (int64_t k = 0; k < n1; k++) {
            const REAL *restrict re = done.re + k * width, *restrict im = done.im + k * width;
            REAL *restrict to_re = y.re + k * stride + first;
            REAL *restrict to_im = y.im + k * stride + first;
            const REAL *restrict c = wr + k * n2 + first / lanes;
            const REAL *restrict d = wi + k * n2 + first / lanes;
            if (lanes > 1) {
                for (int64_t q = 0; q < width; q++) {
                    to_re[q] = re[q] * c[0] - im[q] * d[0];
                    to_im[q] = re[q] * d[0] + im[q] * c[0];
                }
                continue;
            }
            for (int64_t q = 0; q < width; q++) {
                to_re[q] = re[q] * c[q] - im[q] * d[q];
                to_im[q] = re[q] * d[q] + im[q] * c[q];
            }
        }
    }
}

/* The second step: rows, some of them side by side, from y to x. */
WIDE static void
NAME(step_rows)(const CvPlan *plan, Split x, Split y, int64_t lanes, Split a, Split b)
{
    const int64_t n1 = plan->columns->n, n2 = plan->rows->n, stride = n1 * lanes;
    for (int64_t first = 0, width; first < stride; first += width) {
        width = lanes > 1 ? lanes : smaller(LANES, stride - first);
        const REAL *re = y.re + first * n2, *im = y.im + first * n2;
        if (lanes > 1) {
            memcpy(a.re, re, (size_t)(n2 * lanes) * sizeof(REAL));
            memcpy(a.im, im, (size_t)(n2 * lanes) * sizeof(REAL));
        } else {
            NAME(transpose)(re, a.re, width, n2);
            NAME(transpose)(im, a.im, width, n2);
        }
        const Split done = NAME(run)(plan->rows, a, b, width, b);
        for (int64_t k = 0; k < n2; k++) {
            memcpy(x.re + k * stride + first, done.re + k * width, (size_t)width * sizeof(REAL));
            memcpy(x.im + k * stride + first, done.im + k * width, (size_t)width * sizeof(REAL));
        }
    }
}

/* The transforms of `lanes` columns of `x`, in `x` or in `y`; both have room for the length of the
 * plan's convolution, if it has one; `extra` for twice its `extra_length` in all lanes. */
static Split
NAME(run)(const CvPlan *plan, Split x, Split y, int64_t lanes, Split extra)
{
    if (plan->columns != NULL) {
        const Split more = NAME(shift)(extra, extra_length(plan) * LANES);
        NAME(step_columns)(plan, x, y, lanes, extra, more);
        NAME(step_rows)(plan, x, y, lanes, extra, more);
        return x;
    }
    if (plan->inner != NULL) {
        const int64_t length = plan->inner->n, rest = (length - plan->n) * lanes;
        NAME(multiply_rows)(x, plan->chirp, plan->n, lanes);
        memset(x.re + plan->n * lanes, 0, (size_t)rest * sizeof(REAL));
        memset(x.im + plan->n * lanes, 0, (size_t)rest * sizeof(REAL));
        Split spectrum = NAME(run)(plan->inner, x, y, lanes, extra);
        Split other = spectrum.re == x.re ? y : x;
        NAME(multiply_rows)(spectrum, plan->spectrum, length, lanes);
        /* Backwards is forwards with real and imaginary parts exchanged. */
        Split back = NAME(run)(plan->inner, (Split){spectrum.im, spectrum.re},
                               (Split){other.im, other.re}, lanes, extra);
        back = (Split){back.im, back.re};
        NAME(multiply_rows)(back, plan->chirp, plan->n, lanes);
        return back;
    }
    int64_t s = lanes;
    for (int i = 0; i < plan->passes; i++) {
        const CvPass *pass = &plan->pass[i];
        const REAL *wr = (const REAL *)plan->twiddles.values + pass->twiddles;
        const REAL *wi = wr + plan->twiddles.count;
        switch (pass->radix) {
        case 2:
            NAME(pass_2)(x.re, x.im, y.re, y.im, s, pass->m, wr, wi);
            break;
        case 3:
            NAME(pass_3)(x.re, x.im, y.re, y.im, s, pass->m, wr, wi);
            break;
        case 4:
            NAME(pass_4)(x.re, x.im, y.re, y.im, s, pass->m, wr, wi);
            break;
        case 5:
            NAME(pass_5)(x.re, x.im, y.re, y.im, s, pass->m, wr, wi);
            break;
        case 8:
            NAME(pass_8)(x.re, x.im, y.re, y.im, s, pass->m, wr, wi);
            break;
        default:
            NAME(pass_generic)(x, y, s, pass, wr, wi);
        }
        s *= pass->radix;
        Split swapped = x;
        x = y;
        y = swapped;
    }
    return x;
}
