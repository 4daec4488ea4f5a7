/*
 * test_observer_kl.c - entropy calibration against an independent slow search on the numbers themselves, and closed forms.
 */
#include "quant/golden_quantizer.h"

static struct mqb_scheme scheme_of(int role, int bits, bool is_signed, bool symmetric, int channels)
{
    struct mqb_scheme scheme = {.struct_size = sizeof(scheme), .role = role, .bits = bits, .symmetric = symmetric};
    scheme.qmin = is_signed ? -(1 << (bits - 1)) : 0;
    scheme.qmax = scheme.qmin + (1 << bits) - 1;
    scheme.per_channel = channels > 1;
    scheme.num_channels = channels;
    return scheme;
}

/* Observes n numbers in `batches` equal parts, the last first if `backwards`. */
static void observe(const char *name, const struct mqb_scheme *scheme, const float *x, int64_t n, int batches, bool backwards,
                    float *scale, int32_t *zero)
{
    const struct mqb_host *host = mqb_host_table();
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_observer *observer;
    int64_t size = n / batches, channels = scheme->num_channels;
    assert_int_equal(host->observer_create(name, scheme, &observer, &error), MQB_OK);
    for (int i = 0; i < batches; i++) {
        struct mqb_tensor_view view = {.struct_size = sizeof(view),
                                       .rank = 2,
                                       .dims = {channels, size / channels},
                                       .num_elements = size,
                                       .data = x + (backwards ? batches - 1 - i : i) * size};
        if (host->observer_observe(observer, &view, &error) != MQB_OK)
            fail_msg("%s", error.text);
    }
    assert_int_equal(host->observer_qparams(observer, scale, zero, &error), MQB_OK);
    host->observer_destroy(observer);
}

/* ---- the slow search ---- */

enum { BINS = 8192 };

/* D(P || Q) by definition: bin by bin, on arrays. A bin's code is that of its middle, halves up. */
static double slow_divergence(const struct mqb_scheme *scheme, const double *histogram, double width, float scale, int32_t zero)
{
    static double p[BINS], q[BINS];
    static int code[BINS];
    double inside = 0.0, total = 0.0, d = 0.0;
    int first = -1, last = -1;
    for (int i = 0; i < BINS; i++) {
        double middle = (i + 0.5 - BINS / 2) * width, raw = floor(middle / (double)scale + 0.5);
        raw = fmin(fmax(raw, -1e6), 1e6) + zero;
        code[i] = raw < scheme->qmin ? -1000 : raw > scheme->qmax ? 1000 : (int)raw;
        p[i] = q[i] = 0.0;
        if (abs(code[i]) == 1000)
            continue;
        first = first < 0 ? i : first;
        last = i;
        p[i] = histogram[i];
        inside += histogram[i];
    }
    if (first < 0 || inside == 0.0)
        return -1.0;
    for (int i = 0; i < BINS; i++) {
        total += histogram[i];
        if (code[i] == -1000)
            p[first] += histogram[i];
        if (code[i] == 1000)
            p[last] += histogram[i];
    }
    for (int i = first; i <= last;) {
        int next = i, used = 0;
        double mass = 0.0;
        for (; next <= last && code[next] == code[i]; next++) {
            mass += histogram[next];
            used += p[next] > 0.0;
        }
        for (; i < next; i++)
            q[i] = p[i] > 0.0 ? mass / used : 0.0;
    }
    for (int i = first; i <= last; i++) {
        if (p[i] > 0.0)
            d += p[i] / total * log(p[i] / total / fmax(q[i] / inside, 1e-9));
    }
    return d;
}

/* The least divergence over the windows [-t, t], t on a bin's edge, of a tensor; the scale that has it and its divergence. */
static double slow_search(const struct mqb_scheme *scheme, const float *x, int64_t n, float *best_scale, double *histogram,
                          double *width)
{
    float min = 0.0f, max = 0.0f;
    for (int64_t i = 0; i < n; i++) {
        min = fminf(min, x[i]);
        max = fmaxf(max, x[i]);
    }
    double limit = exp2(floor(log2(fmax(-(double)min, (double)max))) + 1.0), best = -1.0;
    *width = limit / (BINS / 2);
    memset(histogram, 0, BINS * sizeof(double));
    for (int64_t i = 0; i < n; i++) {
        if (x[i] != 0.0f)
            histogram[(int)floor((double)x[i] / *width) + BINS / 2] += 1.0;
    }
    int bins = (int)ceil(fmax(-(double)min, (double)max) / *width);
    for (int keep = bins; keep >= 1; keep -= 7) { /* on purpose not the steps of the search under test */
        float t = (float)(keep * *width), low = fmaxf(min, -t), high = fminf(max, t),
              levels = (float)(scheme->qmax - scheme->qmin);
        float s = !scheme->symmetric ? (high - low) / levels : fmaxf(-low, high) / (scheme->qmin < 0 ? levels / 2.0f : levels);
        int32_t zero = 0;
        if (scheme->pot_scale)
            s = exp2f(rintf(log2f(s)));
        if (!scheme->symmetric)
            zero = (int32_t)fminf(fmaxf((float)scheme->qmin - rintf(low / s), (float)scheme->qmin), (float)scheme->qmax);
        if (keep < bins && (double)s < *width)
            break;
        double d = slow_divergence(scheme, histogram, *width, s, zero);
        if (d >= 0.0 && (best < 0.0 || d < best - 1e-12)) {
            best = d;
            *best_scale = s;
        }
    }
    return best;
}

enum sample { NORMAL, HALF_NORMAL, LAPLACE, SKEWED };

static float *sample_of(enum sample kind, int64_t n)
{
    float *x = malloc((size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; i++) {
        double v = mqb_normal(11, (uint64_t)kind, (uint64_t)i);
        double u = (double)mqb_uniform(12, (uint64_t)kind, (uint64_t)i);
        x[i] = (float)(kind == NORMAL        ? v
                       : kind == HALF_NORMAL ? fmax(v, 0.0)
                       : kind == LAPLACE     ? (v < 0.0 ? 1.0 : -1.0) * log(1.0 - u)
                                             : (v < 0.0 ? 0.25 * v : v * v));
    }
    return x;
}

static void test_kl_equals_slow_search(void **state)
{
    (void)state;
    enum { N = 60000 };
    static double histogram[BINS];
    for (int kind = NORMAL; kind <= SKEWED; kind++) {
        float *x = sample_of((enum sample)kind, N);
        for (int variant = 0; variant < 15; variant++) {
            int form = variant % 3, bits = variant < 3 ? 2 : variant < 6 ? 4 : variant < 9 ? 6 : variant < 12 ? 8 : 10;
            struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, bits, form == 0, form < 2, 1);
            float scale, want = 0.0f;
            int32_t zero;
            double width, best = slow_search(&scheme, x, N, &want, histogram, &width);
            observe("kl", &scheme, x, N, 1, false, &scale, &zero);
            /* Both searches skip candidates, each others: as good as the other up to a step between them. */
            double got = slow_divergence(&scheme, histogram, width, scale, zero);
            if (!(got <= best * 1.05 + 1e-6) || !(fabsf(scale / want - 1.0f) < 0.2f))
                fail_msg("sample %d, %d bits, form %d: scale %g with D %g; slow search %g with %g", kind, bits, form,
                         (double)scale, got, (double)want, best);
        }
        free(x);
    }
}

static void test_kl_power_of_two_is_the_best_power(void **state)
{
    (void)state;
    enum { N = 60000 };
    static double histogram[BINS];
    for (int kind = NORMAL; kind <= SKEWED; kind++) {
        float *x = sample_of((enum sample)kind, N);
        for (int bits = 4; bits <= 8; bits += 4) {
            struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, bits, true, true, 1);
            scheme.pot_scale = 1;
            float scale, want = 0.0f;
            int32_t zero;
            double width;
            slow_search(&scheme, x, N, &want, histogram, &width);
            observe("kl", &scheme, x, N, 1, false, &scale, &zero);
            assert_true(scale == want);
            assert_true(mqb_pot_round(scale) == scale);
        }
        free(x);
    }
}

/* ---- closed forms ---- */

/* Every bin inside holds as much as the others: at the full range P = Q, and any narrower one moves something. */
static void test_kl_uniform_keeps_full_range(void **state)
{
    (void)state;
    enum { N = 4 * BINS };
    float *x = malloc(N * sizeof(float)), scale;
    int32_t zero;
    for (int i = 0; i < N; i++)
        x[i] = ((float)i + 0.5f) / (float)N;
    for (int bits = 2; bits <= 8; bits++) {
        float levels = (float)((1 << bits) - 1);
        struct mqb_scheme unsigned_codes = scheme_of(MQB_ROLE_ACTIVATION, bits, false, true, 1);
        observe("kl", &unsigned_codes, x, N, 1, false, &scale, &zero);
        assert_true(scale == x[N - 1] / levels);
        struct mqb_scheme affine = scheme_of(MQB_ROLE_WEIGHT, bits, true, false, 1);
        observe("kl", &affine, x, N, 1, false, &scale, &zero);
        assert_true(scale == x[N - 1] / levels && zero == affine.qmin);
    }
    for (int i = 0; i < N; i++)
        x[i] = 2.0f * x[i] - 1.0f;
    struct mqb_scheme signed_codes = scheme_of(MQB_ROLE_ACTIVATION, 4, true, true, 1);
    observe("kl", &signed_codes, x, N, 1, false, &scale, &zero);
    assert_true(scale == x[N - 1] / 7.5f);
    free(x);
}

static void test_kl_one_outlier_is_clipped(void **state)
{
    (void)state;
    enum { N = 100000 };
    float *x = sample_of(NORMAL, N), scale;
    int32_t zero;
    for (int role = 0; role < 2; role++) {
        for (int form = 0; form < 2; form++) {
            x[777] = form ? -50.0f : 50.0f;
            struct mqb_scheme scheme = scheme_of(role ? MQB_ROLE_ACTIVATION : MQB_ROLE_WEIGHT, 4, true, form == 0, 1);
            observe("kl", &scheme, x, N, 1, false, &scale, &zero);
            float reach = scale * (form ? 15.0f : 7.5f) / (form ? 2.0f : 1.0f);
            assert_true(reach > 2.0f && reach < 6.0f);
            /* The outlier stood at one end; the other end's numbers are all kept. */
            if (form)
                assert_true((float)(scheme.qmax - zero) * scale > 2.0f);
        }
    }
    free(x);
}

/* Zeros have a code whatever the range. */
static void test_kl_exact_zeros_change_nothing(void **state)
{
    (void)state;
    enum { N = 50000 };
    float *x = calloc(2 * N, sizeof(float)), *dense = sample_of(LAPLACE, N), scale, dense_scale;
    int32_t zero, dense_zero;
    for (int i = 0; i < N; i++)
        dense[i] = fabsf(dense[i]) + 1e-3f;
    memcpy(x, dense, N * sizeof(float));
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, false, false, 1);
    observe("kl", &scheme, x, 2 * N, 2, false, &scale, &zero);
    observe("kl", &scheme, dense, N, 1, false, &dense_scale, &dense_zero);
    assert_true(scale == dense_scale && zero == dense_zero);
    free(x);
    free(dense);
}

static void test_kl_does_not_depend_on_batches_or_their_order(void **state)
{
    (void)state;
    enum { N = 8192 };
    float *x = sample_of(NORMAL, N), whole, forwards, backwards;
    int32_t zero;
    for (int i = 0; i < N; i++)
        x[i] = ldexpf(x[i], i / 1024 - 4); /* each batch is larger than the one before: the histogram grows, or does not */
    struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, true, true, 1);
    observe("kl", &scheme, x, N, 1, false, &whole, &zero);
    observe("kl", &scheme, x, N, 8, false, &forwards, &zero);
    observe("kl", &scheme, x, N, 8, true, &backwards, &zero);
    assert_true(whole == forwards && whole == backwards);
    free(x);
}

static void test_kl_channels_are_searched_alone(void **state)
{
    (void)state;
    enum { N = 30000 };
    float *x = malloc(3 * N * sizeof(float)), scale[3], alone;
    int32_t zero[3], alone_zero;
    for (int c = 0; c < 3; c++) {
        float *channel = sample_of((enum sample)c, N);
        for (int i = 0; i < N; i++)
            x[c * N + i] = ldexpf(channel[i], 3 * c);
        free(channel);
    }
    for (int symmetric = 0; symmetric < 2; symmetric++) {
        struct mqb_scheme scheme = scheme_of(MQB_ROLE_WEIGHT, 4, true, symmetric, 3);
        struct mqb_scheme one = scheme_of(MQB_ROLE_ACTIVATION, 4, true, symmetric, 1);
        observe("kl", &scheme, x, 3 * N, 1, false, scale, zero);
        for (int c = 0; c < 3; c++) {
            observe("kl", &one, x + c * N, N, 1, false, &alone, &alone_zero);
            assert_true(scale[c] == alone && zero[c] == alone_zero);
        }
    }
    free(x);
}

static void test_kl_degenerate_tensors_are_minmax(void **state)
{
    (void)state;
    static const float zeros[4] = {0}, constant[4] = {2.5f, 2.5f, 2.5f, 2.5f}, single[1] = {-3.0f},
                       huge[4] = {FLT_MAX, -FLT_MAX, 0.0f, 1.0f}, tiny[4] = {1e-45f, -1e-42f, 0.0f, 1e-40f};
    static const struct {
        const float *x;
        int64_t n;
    } inputs[] = {{zeros, 4}, {constant, 4}, {single, 1}, {huge, 4}, {tiny, 4}};
    for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++) {
        for (int variant = 0; variant < 32; variant++) {
            struct mqb_scheme scheme = scheme_of(variant & 1 ? MQB_ROLE_WEIGHT : MQB_ROLE_ACTIVATION, variant & 2 ? 8 : 2,
                                                 variant & 4, variant & 8, 1);
            float scale = 0.0f, whole = 0.0f;
            int32_t zero = -1000, whole_zero = 0;
            scheme.pot_scale = variant & 16 ? 1 : 0;
            observe("kl", &scheme, inputs[i].x, inputs[i].n, 1, false, &scale, &zero);
            observe("minmax", &scheme, inputs[i].x, inputs[i].n, 1, false, &whole, &whole_zero);
            assert_true(scale >= FLT_EPSILON && scale <= FLT_MAX);
            assert_true(scale == whole && zero == whole_zero);
        }
    }
}

/* ---- the algorithm that uses it ---- */

static void test_ptq_kl_takes_the_scale_of_the_observer(void **state)
{
    (void)state;
    enum { N = 20000 };
    void *library;
    const struct mqb_quantizer *ptq_kl = quantizer_open(&library, "ptq.so", "ptq_kl");
    assert_non_null(ptq_kl);
    for (int positive = 0; positive < 2; positive++) {
        float *x = sample_of(positive ? HALF_NORMAL : LAPLACE, N), scale;
        int32_t zero;
        x[5] = 30.0f;
        struct mqb_scheme scheme = scheme_of(MQB_ROLE_ACTIVATION, 4, true, true, 1), codes = scheme;
        scheme.adaptive_sign = 1;
        if (positive) {
            codes.qmin = 0;
            codes.qmax = 15;
        }
        observe("kl", &codes, x, N, 1, false, &scale, &zero);
        void *self = quantizer_create(ptq_kl, &scheme, "");
        struct mqb_tensor_view view = {.struct_size = sizeof(view), .rank = 2, .dims = {1, N}, .num_elements = N, .data = x};
        quantizer_observe(ptq_kl, self, &view);
        quantizer_init(ptq_kl, self);
        struct mqb_qparams qparams = quantizer_qparams(ptq_kl, self);
        assert_true(qparams.scale[0] == scale && qparams.zero_point[0] == 0 && qparams.qmin == codes.qmin);
        assert_true(scale * (positive ? 15.0f : 7.5f) < 29.0f);
        ptq_kl->destroy(self);
        free(x);
    }
    assert_int_equal(dlclose(library), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kl_equals_slow_search),
        cmocka_unit_test(test_kl_power_of_two_is_the_best_power),
        cmocka_unit_test(test_kl_uniform_keeps_full_range),
        cmocka_unit_test(test_kl_one_outlier_is_clipped),
        cmocka_unit_test(test_kl_exact_zeros_change_nothing),
        cmocka_unit_test(test_kl_does_not_depend_on_batches_or_their_order),
        cmocka_unit_test(test_kl_channels_are_searched_alone),
        cmocka_unit_test(test_kl_degenerate_tensors_are_minmax),
        cmocka_unit_test(test_ptq_kl_takes_the_scale_of_the_observer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
