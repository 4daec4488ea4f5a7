/*
 * observer.h - what the observers share. Room-internal; plugins reach them through the host table.
 *
 * A kind sees one channel at a time (a per-tensor scheme has one) and says what range, or what scale, it takes from all
 * batches. Sums are double and run in index order.
 */
#ifndef MQB_OBSERVER_H
#define MQB_OBSERVER_H

#include "quant/quant.h"

/* What every kind gets for nothing. */
struct mqb_observer_channel {
    float min, max; /* of all batches */
    float batch_min, batch_max;
    int64_t num_batches;
};

struct mqb_observer_kind {
    const char *name;
    size_t channel_size; /* bytes of the kind's own state a channel, zeroed */
    double parameter;    /* a quantile, a number of standard deviations; 0 if the kind has none */
    /* One channel of one batch; n > 0, all finite, `base` already counts this batch. */
    mqb_status (*observe)(const struct mqb_observer *observer, const struct mqb_observer_channel *base, void *state,
                          const float *x, int64_t n, struct mqb_error *error);
    /* The scale and zero point of one channel that has seen at least one batch. */
    void (*qparams)(const struct mqb_observer *observer, const struct mqb_observer_channel *base, const void *state,
                    float *scale, int32_t *zero_point);
    void (*release)(void *state); /* what the state owns; NULL if nothing */
};

struct mqb_observer {
    const struct mqb_observer_kind *kind;
    struct mqb_scheme scheme;
    struct mqb_observer_channel *channels; /* scheme.num_channels */
    int64_t batch_images;                  /* of the last batch: dims[0] */
    unsigned char *states;
};

/* The calls of the host table. */
mqb_status mqb_observer_create(const char *name, const struct mqb_scheme *scheme, struct mqb_observer **observer,
                               struct mqb_error *error);
mqb_status mqb_observer_observe(struct mqb_observer *observer, const struct mqb_tensor_view *x, struct mqb_error *error);
mqb_status mqb_observer_qparams(const struct mqb_observer *observer, float *scale, int32_t *zero_point,
                                struct mqb_error *error);
void mqb_observer_range(const struct mqb_observer *observer, float *min, float *max);
void mqb_observer_destroy(struct mqb_observer *observer);

/* MQBench's rule: the range is widened to hold 0, then
 *   symmetric: s = max(-min, max) / ((qmax - qmin) / 2), or / (qmax - qmin) if no code is negative; z = 0
 *   affine:    s = (max - min) / (qmax - qmin), z = clip(qmin - rne(min / s), qmin, qmax)
 * in float32; a power-of-two scale is rounded before z is computed. */
void mqb_observer_from_range(const struct mqb_scheme *scheme, float min, float max, float *scale, int32_t *zero_point);
/* The same ending for a kind that finds a scale by itself: z = clip(qmin - rne(min / s)). */
void mqb_observer_from_scale(const struct mqb_scheme *scheme, float raw_scale, float min, float *scale, int32_t *zero_point);
/* Sum of (x_hat - x)^2 over n numbers under these parameters. */
double mqb_observer_error(const struct mqb_scheme *scheme, float scale, int32_t zero_point, const float *x, int64_t n);

extern const struct mqb_observer_kind mqb_observer_minmax;         /* observer_range.c */
extern const struct mqb_observer_kind mqb_observer_ema_minmax;     /* observer_range.c */
extern const struct mqb_observer_kind mqb_observer_ema_quantile;   /* observer_range.c: 99.999 % */
extern const struct mqb_observer_kind mqb_observer_ema_quantile_99; /* observer_range.c */
extern const struct mqb_observer_kind mqb_observer_lsq;            /* observer_moments.c */
extern const struct mqb_observer_kind mqb_observer_lsqplus;        /* observer_moments.c */
extern const struct mqb_observer_kind mqb_observer_clip_std;       /* observer_moments.c */
extern const struct mqb_observer_kind mqb_observer_mse;            /* observer_mse.c */
extern const struct mqb_observer_kind mqb_observer_ema_mse;        /* observer_mse.c */
extern const struct mqb_observer_kind mqb_observer_kl;             /* observer_kl.c */
extern const struct mqb_observer_kind mqb_observer_percentile;     /* observer_percentile.c: 99.99 % */
extern const struct mqb_observer_kind mqb_observer_percentile_999; /* observer_percentile.c: 99.9 % */

/* observer_paper.c: what the released programs do instead, for replaying them (docs/deviations.md). paper_: the paper's code,
 * which forgets all batches but the last unless its name says otherwise. toolkit_: the toolkit. */
extern const struct mqb_observer_kind mqb_observer_paper_minmax, mqb_observer_paper_average_minmax;
extern const struct mqb_observer_kind mqb_observer_paper_clip_std, mqb_observer_paper_batch_mean_max;
extern const struct mqb_observer_kind mqb_observer_paper_percentile_999, mqb_observer_paper_lsq, mqb_observer_paper_average_lsq;
extern const struct mqb_observer_kind mqb_observer_paper_lsqplus, mqb_observer_paper_mse, mqb_observer_paper_kl;
extern const struct mqb_observer_kind mqb_observer_toolkit_clip_std, mqb_observer_toolkit_lsq, mqb_observer_toolkit_lsqplus;

/* The quantiles 1 - q and q of n numbers, by sorting. observer_percentile.c */
mqb_status mqb_observer_quantiles(const float *x, int64_t n, double q, float *low, float *high, struct mqb_error *error);

/* ---- observer_histogram.c: a distribution in bounded memory ---- */

#define MQB_HISTOGRAM_BINS 8192

/* Bins of equal width over [-limit, limit), limit a power of two. A bin keeps count, sum and sum of squares, so the squared
 * error of a bin that falls on one code is exact. */
struct mqb_histogram_bin {
    double count, sum, square;
    double unused; /* half a cache line: a number that is added touches one */
};
struct mqb_histogram {
    double limit;
    struct mqb_histogram_bin *bins; /* MQB_HISTOGRAM_BINS */
    double total, zeros; /* numbers seen, and those of them that are 0 */
};
/* Adds n finite numbers; the range doubles (pairs of bins merge) until it holds max_abs. */
mqb_status mqb_histogram_add(struct mqb_histogram *histogram, float max_abs, const float *x, int64_t n,
                             struct mqb_error *error);
void mqb_histogram_release(struct mqb_histogram *histogram);
#define MQB_HISTOGRAM_MAX_RANGES 96
/* Squared error of all numbers under each of `n` parameters, at most MQB_HISTOGRAM_MAX_RANGES. */
void mqb_histogram_errors(const struct mqb_histogram *histogram, const struct mqb_scheme *scheme, const float *scales,
                          const int32_t *zero_points, int n, double *errors);
/* The number below which the share `q` of all lies, linear within a bin. */
double mqb_histogram_quantile(const struct mqb_histogram *histogram, double q);

#endif
