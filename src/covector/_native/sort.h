/* Sorting of encoded keys, alone or with an index. */
#ifndef COVECTOR_SORT_H
#define COVECTOR_SORT_H

#include <stdint.h>

typedef struct {
    uint32_t key, index;
} Pair32;

typedef struct {
    uint64_t key;
    uint32_t index;
} Pair64;

/* Stable; `other` has room for n more. Return whichever of both holds the result. */
uint32_t *cv_sort_keys32(uint32_t *keys, uint32_t *other, int64_t n);
uint64_t *cv_sort_keys64(uint64_t *keys, uint64_t *other, int64_t n);
Pair32 *cv_sort_pairs32(Pair32 *pairs, Pair32 *other, int64_t n);
Pair64 *cv_sort_pairs64(Pair64 *pairs, Pair64 *other, int64_t n);

#endif
