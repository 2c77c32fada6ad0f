/* Sorting of encoded keys: insertion for a few, merging for some, least-significant-digit radix for
 * many (digits which are the same everywhere cost no pass). */
#include "sort.h"

#include <stdbool.h>
#include <string.h>

enum {
    RUN = 16, /* insertion sorts runs of this many */
    DIGIT_BITS = 8,
    DIGITS = 1 << DIGIT_BITS,
    RADIX_MINIMUM_32 = 192, /* measured: merging is faster below */
    RADIX_MINIMUM_64 = 384
};

#define SORT(name, item, key_type, KEY, minimum)                                                  \
    static void insertion_##name(item *a, int64_t n)                                              \
    {                                                                                             \
        for (int64_t i = 1; i < n; i++) {                                                         \
            item moving = a[i];                                                                   \
            int64_t j = i;                                                                        \
            for (; j > 0 && KEY(moving) < KEY(a[j - 1]); j--)                                     \
                a[j] = a[j - 1];                                                                  \
            a[j] = moving;                                                                        \
        }                                                                                         \
    }                                                                                             \
                                                                                                  \
    static void merge_##name(const item *a, const item *b, const item *end, item *to)             \
    {                                                                                             \
        const item *middle = b;                                                                   \
        while (a < middle && b < end) {                                                           \
            const bool right = KEY(*b) < KEY(*a);                                                 \
            *to++ = *(right ? b : a);                                                             \
            b += right;                                                                           \
            a += !right;                                                                          \
        }                                                                                         \
        memcpy(to, a, (size_t)(middle - a) * sizeof(item));                                       \
        memcpy(to + (middle - a), b, (size_t)(end - b) * sizeof(item));                           \
    }                                                                                             \
                                                                                                  \
    static item *merge_sort_##name(item *from, item *to, int64_t n)                               \
    {                                                                                             \
        for (int64_t i = 0; i < n; i += RUN)                                                      \
            insertion_##name(from + i, n - i < RUN ? n - i : RUN);                                \
        for (int64_t width = RUN; width < n; width *= 2) {                                        \
            for (int64_t i = 0; i < n; i += 2 * width) {                                          \
                int64_t middle = i + width < n ? i + width : n;                                   \
                int64_t end = i + 2 * width < n ? i + 2 * width : n;                              \
                merge_##name(from + i, from + middle, from + end, to + i);                        \
            }                                                                                     \
            item *swapped = from;                                                                 \
            from = to;                                                                            \
            to = swapped;                                                                         \
        }                                                                                         \
        return from;                                                                              \
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
        if (n < (minimum))                                                                        \
            return merge_sort_##name(items, other, n);                                            \
        return radix_##name(items, other, n);                                                     \
    }

#define ITSELF(item) (item)
#define KEY_OF(item) ((item).key)

SORT(keys32, uint32_t, uint32_t, ITSELF, RADIX_MINIMUM_32)
SORT(keys64, uint64_t, uint64_t, ITSELF, RADIX_MINIMUM_64)
SORT(pairs32, Pair32, uint32_t, KEY_OF, RADIX_MINIMUM_32)
SORT(pairs64, Pair64, uint64_t, KEY_OF, RADIX_MINIMUM_64)
