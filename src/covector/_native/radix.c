/* Sorting of encoded keys: by counting who comes before whom where they are few (quadratic, but
 * without a branch to mispredict, and vectorised), else least-significant-digit radix (digits
 * which are the same everywhere cost no pass). */
#include "sort.h"

#include <string.h>

enum {
    DIGIT_BITS = 8,
    DIGITS = 1 << DIGIT_BITS,
    FEW_32 = 64, /* measured: up to so many counting is faster */
    FEW_64 = 64
};

#define SORT(name, item, key_type, KEY, few)                                                      \
    static item *count_##name(const item *from, item *to, int64_t n)                              \
    {                                                                                             \
        key_type keys[few], ranks[few];                                                           \
        for (int64_t i = 0; i < n; i++) {                                                         \
            const key_type key = KEY(from[i]);                                                    \
            key_type rank = 0;                                                                    \
            for (int64_t j = 0; j < i; j++) {                                                     \
                const key_type before = keys[j] <= key;                                           \
                rank += before;                                                                   \
                ranks[j] += 1 - before;                                                           \
            }                                                                                     \
            keys[i] = key;                                                                        \
            ranks[i] = rank;                                                                      \
        }                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                           \
            to[ranks[i]] = from[i];                                                               \
        return to;                                                                                \
    }                                                                                             \
                                                                                                  \
    static void scatter_##name(const item *from, item *to, int64_t n, int shift,                  \
                               const uint32_t *counts)                                            \
    {                                                                                             \
        uint32_t places[DIGITS];                                                                  \
        uint32_t place = 0;                                                                       \
        for (int digit = 0; digit < DIGITS; digit++) {                                            \
            places[digit] = place;                                                                \
            place += counts[digit];                                                               \
        }                                                                                         \
        for (int64_t i = 0; i < n; i++)                                                           \
            to[places[KEY(from[i]) >> shift & (DIGITS - 1)]++] = from[i];                         \
    }                                                                                             \
                                                                                                  \
    static item *radix_##name(item *from, item *to, int64_t n)                                    \
    {                                                                                             \
        enum { PASSES = sizeof(key_type) };                                                       \
        uint32_t counts[PASSES][DIGITS];                                                          \
        memset(counts, 0, sizeof counts);                                                         \
        for (int64_t i = 0; i < n; i++) {                                                         \
            key_type key = KEY(from[i]);                                                          \
            for (int pass = 0; pass < PASSES; pass++)                                             \
                counts[pass][key >> (DIGIT_BITS * pass) & (DIGITS - 1)]++;                        \
        }                                                                                         \
        for (int pass = 0; pass < PASSES; pass++) {                                               \
            int shift = DIGIT_BITS * pass;                                                        \
            if (counts[pass][KEY(from[0]) >> shift & (DIGITS - 1)] == (uint32_t)n)                \
                continue;                                                                         \
            scatter_##name(from, to, n, shift, counts[pass]);                                     \
            item *swapped = from;                                                                 \
            from = to;                                                                            \
            to = swapped;                                                                         \
        }                                                                                         \
        return from;                                                                              \
    }                                                                                             \
                                                                                                  \
    item *cv_sort_##name(item *items, item *other, int64_t n)                                     \
    {                                                                                             \
        return n <= (few) ? count_##name(items, other, n) : radix_##name(items, other, n);        \
    }

#define ITSELF(item) (item)
#define KEY_OF(item) ((item).key)

SORT(keys32, uint32_t, uint32_t, ITSELF, FEW_32)
SORT(keys64, uint64_t, uint64_t, ITSELF, FEW_64)
SORT(pairs32, Pair32, uint32_t, KEY_OF, FEW_32)
SORT(pairs64, Pair64, uint64_t, KEY_OF, FEW_64)
