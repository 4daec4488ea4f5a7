/* row_sums.c - sums of columns in double precision. Each column is added row by row, so the width of a vector decides nothing.
 * Four rows at a time, so that a sum is loaded and stored once for four additions. */
#include "ops/ops.h"

#include <mqbench/plugin.h>

MQB_MULTIVERSION static void sum_rows_product(int64_t rows, int64_t channels, const float *x, const float *y,
                                              double *restrict sum, double *restrict product)
{
    int64_t n = channels, r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n, y += 4 * n)
        for (int64_t c = 0; c < n; c++) {
            double x0 = (double)x[c], x1 = (double)x[c + n], x2 = (double)x[c + 2 * n], x3 = (double)x[c + 3 * n];
            double y0 = (double)y[c], y1 = (double)y[c + n], y2 = (double)y[c + 2 * n], y3 = (double)y[c + 3 * n];
            sum[c] = (((sum[c] + x0) + x1) + x2) + x3;
            product[c] = (((product[c] + x0 * y0) + x1 * y1) + x2 * y2) + x3 * y3;
        }
    for (; r < rows; r++, x += n, y += n)
        for (int64_t c = 0; c < n; c++) {
            sum[c] += (double)x[c];
            product[c] += (double)x[c] * (double)y[c];
        }
}

void mqb_sum_rows_product(int64_t rows, int64_t channels, const float *x, const float *y, double *sum, double *product)
{
    sum_rows_product(rows, channels, x, y, sum, product);
}

MQB_MULTIVERSION static void sum_rows_square(int64_t rows, int64_t channels, const float *x, double *restrict sum,
                                             double *restrict square)
{
    int64_t n = channels, r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (int64_t c = 0; c < n; c++) {
            double x0 = (double)x[c], x1 = (double)x[c + n], x2 = (double)x[c + 2 * n], x3 = (double)x[c + 3 * n];
            sum[c] = (((sum[c] + x0) + x1) + x2) + x3;
            square[c] = (((square[c] + x0 * x0) + x1 * x1) + x2 * x2) + x3 * x3;
        }
    for (; r < rows; r++, x += n)
        for (int64_t c = 0; c < n; c++) {
            sum[c] += (double)x[c];
            square[c] += (double)x[c] * (double)x[c];
        }
}

void mqb_sum_rows_square(int64_t rows, int64_t channels, const float *x, double *sum, double *square)
{
    sum_rows_square(rows, channels, x, sum, square);
}

MQB_MULTIVERSION static void sum_rows(int64_t rows, int64_t channels, const float *x, double *restrict sum)
{
    int64_t n = channels, r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (int64_t c = 0; c < n; c++)
            sum[c] = (((sum[c] + (double)x[c]) + (double)x[c + n]) + (double)x[c + 2 * n]) + (double)x[c + 3 * n];
    for (; r < rows; r++, x += n)
        for (int64_t c = 0; c < n; c++)
            sum[c] += (double)x[c];
}

void mqb_sum_rows(int64_t rows, int64_t channels, const float *x, double *sum)
{
    sum_rows(rows, channels, x, sum);
}
