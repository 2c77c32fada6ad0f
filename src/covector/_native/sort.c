/* Stable sorts, see covector.h. Every key becomes an unsigned number of the same order; rows are
 * sorted by counting or radix, whichever suits their length. */
#include "covector.h"

#include <stdlib.h>

#include "sort.h"

static const uint8_t type_bytes[CV_TYPE_COUNT] = {
    [CV_BOOL] = 1, [CV_I8] = 1, [CV_I16] = 2, [CV_I32] = 4, [CV_I64] = 8,
    [CV_U8] = 1, [CV_U16] = 2, [CV_U32] = 4, [CV_U64] = 8,
    [CV_F16] = 2, [CV_BF16] = 2, [CV_F32] = 4, [CV_F64] = 8, [CV_C64] = 8, [CV_C128] = 16,
};

/* ---- keys ---- */

/* Encoders read every `stride`-th element. They return false if the key cannot be decoded again:
 * there was a -0.0 or a NaN. */
#define ENCODE_INTEGER(name, type, key, expression)                                               \
    static bool encode_##name(const void *from, int64_t stride, int64_t n, void *to)              \
    {                                                                                             \
        const type *source = from;                                                                \
        key *target = to;                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const type x = source[i * stride];                                                    \
            target[i] = (key)(expression);                                                        \
        }                                                                                         \
        return true;                                                                              \
    }                                                                                             \
    static void decode_##name(const void *from, int64_t n, void *to)                              \
    {                                                                                             \
        const key *source = from;                                                                 \
        type *target = to;                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const key x = source[i];                                                              \
            target[i] = (type)(expression);                                                       \
        }                                                                                         \
    }

/* `bits` holds the number, `sign` its sign bit, `infinity` the largest magnitude of a number. */
#define ENCODE_FLOAT(name, bits, key, sign, infinity)                                             \
    static bool encode_##name(const void *from, int64_t stride, int64_t n, void *to)              \
    {                                                                                             \
        const bits *source = from;                                                                \
        key *target = to;                                                                         \
        unsigned special = 0;                                                                     \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const key x = source[i * stride], magnitude = x & ((key)(sign)-1);                    \
            const bool is_nan = magnitude > (infinity), is_negative_zero = x == (sign);           \
            const key flipped = x & (sign) ? (sign)-magnitude : x | (sign);                       \
            target[i] = is_nan ? ((key)(sign)-1) | (sign) : flipped;                              \
            special |= is_nan | is_negative_zero;                                                 \
        }                                                                                         \
        return special == 0;                                                                      \
    }                                                                                             \
    static void decode_##name(const void *from, int64_t n, void *to)                              \
    {                                                                                             \
        const key *source = from;                                                                 \
        bits *target = to;                                                                        \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const key x = source[i];                                                              \
            target[i] = (bits)(x >= (sign) ? x - (sign) : ((sign)-x) | (sign));                   \
        }                                                                                         \
    }

ENCODE_INTEGER(bool, uint8_t, uint32_t, x != 0)
ENCODE_INTEGER(i8, uint8_t, uint32_t, x ^ 0x80u)
ENCODE_INTEGER(i16, uint16_t, uint32_t, x ^ 0x8000u)
ENCODE_INTEGER(i32, uint32_t, uint32_t, x ^ 0x80000000u)
ENCODE_INTEGER(i64, uint64_t, uint64_t, x ^ UINT64_C(0x8000000000000000))
ENCODE_INTEGER(u8, uint8_t, uint32_t, x)
ENCODE_INTEGER(u16, uint16_t, uint32_t, x)
ENCODE_INTEGER(u32, uint32_t, uint32_t, x)
ENCODE_INTEGER(u64, uint64_t, uint64_t, x)
ENCODE_FLOAT(f16, uint16_t, uint32_t, UINT32_C(0x8000), 0x7c00u)
ENCODE_FLOAT(bf16, uint16_t, uint32_t, UINT32_C(0x8000), 0x7f80u)
ENCODE_FLOAT(f32, uint32_t, uint32_t, UINT32_C(0x80000000), 0x7f800000u)
ENCODE_FLOAT(f64, uint64_t, uint64_t, UINT64_C(0x8000000000000000), UINT64_C(0x7ff) << 52)

typedef struct {
    bool (*encode)(const void *from, int64_t stride, int64_t n, void *to);
    void (*decode)(const void *from, int64_t n, void *to);
    int key_bytes;
} Coder;

#define CODER(name, bytes) {encode_##name, decode_##name, bytes}
static const Coder coders[CV_C64] = {
    [CV_BOOL] = CODER(bool, 4), [CV_I8] = CODER(i8, 4),   [CV_I16] = CODER(i16, 4),
    [CV_I32] = CODER(i32, 4),   [CV_I64] = CODER(i64, 8), [CV_U8] = CODER(u8, 4),
    [CV_U16] = CODER(u16, 4),   [CV_U32] = CODER(u32, 4), [CV_U64] = CODER(u64, 8),
    [CV_F16] = CODER(f16, 4),   [CV_BF16] = CODER(bf16, 4),
    [CV_F32] = CODER(f32, 4),   [CV_F64] = CODER(f64, 8),
};

/* A key column: complex operands have two. */
typedef struct {
    const Coder *coder;
    const char *data;
    int64_t stride;    /* in elements of the column's type */
    int64_t row_bytes; /* from one row to the next */
} Column;

enum { MAX_KEYS = 8 };

static int
add_columns(Column *columns, int count, const void *data, enum cv_type type, int64_t n)
{
    int64_t row_bytes = n * type_bytes[type];
    if (type == CV_C64 || type == CV_C128) {
        const Coder *part = &coders[type == CV_C64 ? CV_F32 : CV_F64];
        int64_t half = type_bytes[type] / 2;
        columns[count] = (Column){part, data, 2, row_bytes};
        columns[count + 1] = (Column){part, (const char *)data + half, 2, row_bytes};
        return count + 2;
    }
    columns[count] = (Column){&coders[type], data, 1, row_bytes};
    return count + 1;
}

/* ---- one row ---- */

typedef struct {
    int64_t n;
    bool descending;
    void *keys;      /* n encoded keys */
    void *a, *b;     /* n pairs of key and index each */
    uint32_t *order; /* the permutation found */
    void *row;       /* a copy of a row */
} Scratch;

#define INVERT_AND_SORT(bits)                                                                     \
    static void order_by_##bits(Scratch *scratch, bool first)                                     \
    {                                                                                             \
        const uint##bits##_t *keys = scratch->keys;                                               \
        const uint##bits##_t mask = scratch->descending ? ~(uint##bits##_t)0 : 0;                 \
        Pair##bits *pairs = scratch->a;                                                           \
        for (int64_t i = 0; i < scratch->n; i++) {                                                \
            uint32_t index = first ? (uint32_t)i : scratch->order[i];                             \
            pairs[i].key = keys[index] ^ mask;                                                    \
            pairs[i].index = index;                                                               \
        }                                                                                         \
        const Pair##bits *sorted = cv_sort_pairs##bits(pairs, scratch->b, scratch->n);            \
        for (int64_t i = 0; i < scratch->n; i++)                                                  \
            scratch->order[i] = sorted[i].index;                                                  \
    }
INVERT_AND_SORT(32)
INVERT_AND_SORT(64)

/* Finds the order of one row: by the last column first, each sort keeping the previous order. */
static void
find_order(Scratch *scratch, const Column *columns, int count, int64_t row)
{
    for (int c = count - 1; c >= 0; c--) {
        const Column *column = &columns[c];
        column->coder->encode(column->data + row * column->row_bytes, column->stride, scratch->n,
                              scratch->keys);
        if (column->coder->key_bytes == 4)
            order_by_32(scratch, c == count - 1);
        else
            order_by_64(scratch, c == count - 1);
    }
}

/* Sorts a row which nothing is carried along with. False if its keys cannot be decoded. */
static bool
sort_alone(Scratch *scratch, const Column *column, char *data)
{
    if (column->stride != 1 || !column->coder->encode(data, 1, scratch->n, scratch->keys))
        return false;
    const void *sorted = column->coder->key_bytes == 4
                             ? (void *)cv_sort_keys32(scratch->keys, scratch->a, scratch->n)
                             : (void *)cv_sort_keys64(scratch->keys, scratch->a, scratch->n);
    column->coder->decode(sorted, scratch->n, data);
    return true;
}

typedef struct {
    uint64_t low, high;
} Sixteen;

#define GATHER(type)                                                                              \
    for (int64_t i = 0; i < n; i++)                                                               \
        ((type *)data)[i] = ((const type *)scratch->row)[scratch->order[i]];                      \
    break

static void
reorder(const Scratch *scratch, char *data, int bytes)
{
    int64_t n = scratch->n;
    memcpy(scratch->row, data, (size_t)(n * bytes));
    switch (bytes) {
    case 1:
        GATHER(uint8_t);
    case 2:
        GATHER(uint16_t);
    case 4:
        GATHER(uint32_t);
    case 8:
        GATHER(uint64_t);
    default:
        GATHER(Sixteen);
    }
}

/* ---- whole arrays ---- */

static void *
take(char **memory, int64_t bytes)
{
    void *part = *memory;
    *memory += (bytes + CV_ALIGNMENT - 1) / CV_ALIGNMENT * CV_ALIGNMENT;
    return part;
}

/* One piece of memory for all of it: the caller frees `scratch->keys`. */
static bool
make_scratch(Scratch *scratch, int64_t n)
{
    if (n > UINT32_MAX)
        return false;
    int64_t pair = sizeof(Pair64);
    size_t bytes = (size_t)n * (size_t)(8 + 2 * pair + 4 + 16) + 5 * CV_ALIGNMENT;
    char *memory = cv_block_acquire(bytes);
    if (memory == NULL)
        return false;
    *scratch = (Scratch){.n = n};
    scratch->keys = take(&memory, n * 8);
    scratch->a = take(&memory, n * pair);
    scratch->b = take(&memory, n * pair);
    scratch->order = take(&memory, n * 4);
    scratch->row = take(&memory, n * 16);
    return true;
}

/* Rows are short or the machine is slow: look for interruption about once in this many elements. */
enum { POLL_ELEMENTS = 1 << 14 };

static bool
cancelled(cv_context *ctx, int64_t row, int64_t n)
{
    return ctx != NULL && row % (POLL_ELEMENTS / (n + 1) + 1) == 0 && cv_poll(ctx) != 0;
}

static enum cv_type
operand_type(int64_t types, int64_t index)
{
    return (enum cv_type)((uint64_t)types >> (8 * index) & 255);
}

static bool
valid_types(int64_t types, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (operand_type(types, i) >= CV_TYPE_COUNT)
            return false;
    return true;
}

int32_t
cv_sort(cv_context *ctx, int64_t rows, int64_t n, int64_t keys, int64_t operands, int64_t types,
        void *p0, void *p1, void *p2, void *p3, void *p4, void *p5, void *p6, void *p7)
{
    char *const pointers[MAX_KEYS] = {p0, p1, p2, p3, p4, p5, p6, p7};
    Column columns[2 * MAX_KEYS];
    int count = 0;
    if (n <= 1 || rows <= 0 || keys < 1)
        return 0;
    if (operands > MAX_KEYS || keys > operands || !valid_types(types, operands))
        return CV_OUT_OF_MEMORY;
    for (int64_t i = 0; i < keys; i++)
        count = add_columns(columns, count, pointers[i], operand_type(types, i), n);
    Scratch scratch;
    if (!make_scratch(&scratch, n))
        return CV_OUT_OF_MEMORY;
    void *memory = scratch.keys;
    int32_t code = 0;
    for (int64_t row = 0; row < rows && code == 0; row++) {
        if (operands == 1 &&
            sort_alone(&scratch, &columns[0], pointers[0] + row * columns[0].row_bytes))
            continue;
        find_order(&scratch, columns, count, row);
        for (int64_t i = 0; i < operands; i++) {
            int bytes = type_bytes[operand_type(types, i)];
            reorder(&scratch, pointers[i] + row * n * bytes, bytes);
        }
        code = cancelled(ctx, row, n) ? CV_CANCELLED : 0;
    }
    cv_block_release(memory);
    return code;
}

int32_t
cv_argsort(cv_context *ctx, int64_t rows, int64_t n, int64_t keys, int64_t types,
           int64_t index_bytes, int64_t descending, void *permutation, void *k0, void *k1, void *k2,
           void *k3)
{
    const void *const pointers[4] = {k0, k1, k2, k3};
    Column columns[8];
    int count = 0;
    if (n <= 0 || rows <= 0)
        return 0;
    if (keys < 1 || keys > 4 || !valid_types(types, keys))
        return CV_OUT_OF_MEMORY;
    for (int64_t i = 0; i < keys; i++)
        count = add_columns(columns, count, pointers[i], operand_type(types, i), n);
    Scratch scratch;
    if (!make_scratch(&scratch, n))
        return CV_OUT_OF_MEMORY;
    scratch.descending = descending != 0;
    int32_t code = 0;
    for (int64_t row = 0; row < rows && code == 0; row++) {
        find_order(&scratch, columns, count, row);
        for (int64_t i = 0; i < n; i++) {
            if (index_bytes == 4)
                ((int32_t *)permutation)[row * n + i] = (int32_t)scratch.order[i];
            else
                ((int64_t *)permutation)[row * n + i] = scratch.order[i];
        }
        code = cancelled(ctx, row, n) ? CV_CANCELLED : 0;
    }
    cv_block_release(scratch.keys);
    return code;
}
