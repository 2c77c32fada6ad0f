"""A shared library in C, compiled for the tests."""

from __future__ import annotations

import shutil
import subprocess

import pytest

SOURCE = r"""
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <complex.h>

double quadratic(double x, int32_t n) { return x * x + n; }
float halved(float x) { return x / 2; }
void smooth(int64_t n, double w, const double *x, double *y)
{
    for (int64_t i = 0; i < n; i++) {
        double left = x[i > 0 ? i - 1 : 0], right = x[i + 1 < n ? i + 1 : i];
        y[i] = (1 - w) * x[i] + w / 2 * (left + right);
    }
}
int32_t outer(int32_t n, int32_t m, const float *x, const float *y, float *xy, float *total)
{
    *total = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < m; j++)
            *total += xy[i * m + j] = x[i] * y[j];
    return n == 5 ? 7 : 0;
}
double dot(uint32_t n, const double *x, const double *y)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}
void bytes(size_t n, const uint8_t *x, int16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (int16_t)(-3 * (int16_t)x[i]);
}
void turned(size_t n, const float complex *z, float complex *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = I * z[i];
}
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("foreign")
    source, path = folder / "functions.c", folder / "libfunctions.so"
    source.write_text(SOURCE)
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", path, source, "-lm"], check=True)
    return str(path)
