/* test_every_algorithm.c - what every quantizer of the manifest promises, whatever its method: each combination of scheme, bits and
 * tensor works or is refused with a reason; numbers stay finite; values lie on the grid that is handed out; a saved state is whole.
 */
#include "common/support.h"
#include "plugin/registry.h"
#include "quant/quant.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#define CHANNELS 4
#define MAX_SIZE 512

static struct mqb_registry *registry;

struct subject {
    const struct mqb_entry *entry;
    const struct mqb_quantizer *quantizer;
    struct mqb_options *options;
};

static int setup(void **state)
{
    (void)state;
    mqb_log_set_sink(NULL, NULL);
    OK(mqb_registry_create(mqb_host_table(), &registry, &err));
    OK(mqb_registry_add_default_manifests(registry, NULL, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mqb_registry_destroy(registry);
    return 0;
}

/* ---- tensors ---- */

enum tensor { NORMAL, POSITIVE, ZERO, CONSTANT, NEGATIVE_CONSTANT, TINY, OUTLIER, SINGLE, NUM_TENSORS };
static const char *const tensor_names[] = {"normal", "positive", "zero", "constant", "negative constant", "tiny", "outlier", "single"};

static int64_t make_tensor(enum tensor kind, bool per_channel, float *x)
{
    int64_t size = kind == SINGLE ? (per_channel ? CHANNELS : 1) : MAX_SIZE;
    for (int64_t i = 0; i < size; i++) {
        float v = (float)mqb_normal(11, (uint64_t)kind, (uint64_t)i);
        switch (kind) {
        case POSITIVE: v = fabsf(v); break;
        case ZERO: v = 0.0f; break;
        case CONSTANT: v = 0.37f; break;
        case NEGATIVE_CONSTANT: v = -2.5f; break;
        case TINY: v *= 1e-12f; break;
        case OUTLIER: v = i == 77 ? 1e12f : v; break;
        default: break;
        }
        x[i] = v;
    }
    return size;
}

/* ---- one instance, driven as the engine does ---- */

static void check_finite(const struct subject *s, const char *where, const char *what, const float *x, int64_t size)
{
    for (int64_t i = 0; i < size; i++)
        if (!isfinite(x[i]))
            fail_msg("%s, %s: %s[%d] is %g", s->entry->id, where, what, (int)i, (double)x[i]);
}

static void run_slices(const struct mqb_quantizer *q, const void *self, const struct mqb_scheme *scheme, int64_t size, const float *x,
                       const float *dy, float *out, double *sums)
{
    int32_t channels = scheme->num_channels;
    for (int32_t c = 0; c < channels; c++) {
        int64_t begin = c * (size / channels), count = size / channels;
        struct mqb_slice slice = {.struct_size = sizeof slice, .channel = c, .size = count, .offset = (uint64_t)begin, .x = x + begin};
        if (dy == NULL) {
            slice.y = out + begin;
            q->forward(self, &slice);
        } else {
            slice.dy = dy + begin;
            slice.dx = out + begin;
            slice.sums = sums + (size_t)c * q->sums_per_channel;
            q->backward(self, &slice);
        }
    }
}

/* Values of an affine quantizer are (q - z) s to the last bit. */
static void check_grid(const struct subject *s, const char *where, const struct mqb_qparams *p, const float *y, int64_t size)
{
    for (int64_t i = 0; i < size; i++) {
        int32_t c = (int32_t)(i / (size / p->num_channels));
        double code = rint((double)y[i] / (double)p->scale[c]);
        float back = (float)code * p->scale[c];
        code += p->zero_point[c];
        if (back != y[i] || code < p->qmin || code > p->qmax)
            fail_msg("%s, %s: %.9g is no value of the codes %d to %d at scale %.9g, zero point %d", s->entry->id, where, (double)y[i],
                     (int)p->qmin, (int)p->qmax, (double)p->scale[c], (int)p->zero_point[c]);
    }
}

static void check_table(const struct subject *s, const char *where, const struct mqb_qparams *p, const float *y, int64_t size)
{
    for (int64_t i = 0; i < size; i++) {
        int32_t c = (int32_t)(i / (size / p->num_channels)), found = 0;
        for (int32_t k = 0; k < p->num_levels; k++)
            found |= fabsf(p->scale[c] * p->levels[k] - y[i]) <= 1e-5f * fabsf(y[i]) + FLT_MIN;
        if (!found)
            fail_msg("%s, %s: %.9g is none of the %d levels", s->entry->id, where, (double)y[i], (int)p->num_levels);
    }
}

static void check_saved(const struct subject *s, const char *where, void *self, const struct mqb_scheme *scheme,
                        const struct mqb_tensor_view *view, const float *x)
{
    const struct mqb_quantizer *q = s->quantizer;
    size_t size = 0;
    float y[MAX_SIZE], again[MAX_SIZE];
    void *other;
    OK(q->save(self, NULL, &size, &err));
    char *buffer = malloc(size + 1);
    OK(q->save(self, buffer, &size, &err));
    OK(q->create(mqb_host_table(), scheme, s->options, &other, &err));
    OK(q->load(other, buffer, size, &err));
    if (q->prepare != NULL) {
        OK(q->prepare(self, view, 0, &err));
        OK(q->prepare(other, view, 0, &err));
    }
    run_slices(q, self, scheme, view->num_elements, x, NULL, y, NULL);
    run_slices(q, other, scheme, view->num_elements, x, NULL, again, NULL);
    if (memcmp(again, y, (size_t)view->num_elements * sizeof(float)) != 0)
        fail_msg("%s, %s: a loaded state gives other numbers", s->entry->id, where);
    assert_int_not_equal(q->load(other, buffer, size - 1, &err), MQB_OK);
    if (size > 4) {
        buffer[0] = (char)(buffer[0] ^ 0x55);
        assert_int_not_equal(q->load(other, buffer, size, &err), MQB_OK);
    }
    q->destroy(other);
    free(buffer);
}

static void drive(const struct subject *s, const char *where, void *self, const struct mqb_scheme *scheme, enum tensor kind)
{
    const struct mqb_quantizer *q = s->quantizer;
    float x[MAX_SIZE], y[MAX_SIZE], dy[MAX_SIZE], dx[MAX_SIZE];
    double sums[CHANNELS * MQB_QUANTIZER_MAX_SUMS] = {0};
    int32_t codes[MAX_SIZE];
    bool weight = scheme->role == MQB_ROLE_WEIGHT;
    int64_t size = make_tensor(kind, scheme->per_channel, x);
    struct mqb_tensor_view view = {.struct_size = sizeof view, .rank = 2, .num_elements = size, .data = x};
    view.dims[0] = size >= CHANNELS ? CHANNELS : 1;
    view.dims[1] = size / view.dims[0];
    OK(q->observe(self, &view, &err));
    OK(q->init(self, &err));
    for (int step = 0; step < 3; step++) {
        struct mqb_tensor_view seen = view;
        seen.data = weight ? x : NULL; /* activations are not shown */
        if (q->prepare != NULL)
            OK(q->prepare(self, &seen, 1, &err));
        run_slices(q, self, scheme, size, x, NULL, y, NULL);
        check_finite(s, where, "y", y, size);
        struct mqb_qparams p = {.struct_size = sizeof p};
        OK(q->qparams(self, &p, &err));
        assert_int_equal(p.num_channels, scheme->num_channels);
        for (int32_t c = 0; c < p.num_channels; c++)
            if (!isfinite(p.scale[c]) || !(p.scale[c] > 0.0f))
                fail_msg("%s, %s: scale %g", s->entry->id, where, (double)p.scale[c]);
        if (p.num_levels > 0)
            check_table(s, where, &p, y, size);
        else if (q->flags & MQB_QUANTIZER_AFFINE)
            check_grid(s, where, &p, y, size);
        if (weight && q->freeze != NULL && q->freeze(self, &view, codes, &err) == MQB_OK && p.num_levels == 0)
            for (int64_t i = 0; i < size; i++) {
                int32_t c = (int32_t)(i / (size / p.num_channels));
                if ((float)(codes[i] - p.zero_point[c]) * p.scale[c] != y[i])
                    fail_msg("%s, %s: code %d of element %d is not its value %.9g", s->entry->id, where, (int)codes[i], (int)i, (double)y[i]);
            }
        memset(sums, 0, sizeof sums);
        for (int64_t i = 0; i < size; i++)
            dy[i] = (float)mqb_normal(12, (uint64_t)step, (uint64_t)i) * 0.01f;
        run_slices(q, self, scheme, size, x, dy, dx, sums);
        if (q->reduce != NULL)
            q->reduce(self, sums);
        if (weight && MQB_HAS_FIELD(q, struct mqb_quantizer, complete) && q->complete != NULL)
            q->complete(self, sums, dx);
        check_finite(s, where, "dx", dx, size);
        struct mqb_param param = {.struct_size = sizeof param};
        for (uint32_t k = 0; q->param != NULL && q->param(self, k, &param) == MQB_OK; k++) {
            check_finite(s, where, param.name, param.value, param.num_elements);
            check_finite(s, where, "a gradient", param.grad, param.num_elements);
            for (int32_t i = 0; i < param.num_elements; i++) /* a gentle step, bounded as a clipped one would be */
                param.value[i] -= 0.001f * fmaxf(-1.0f, fminf(1.0f, param.grad[i])) * fabsf(param.value[i]);
        }
    }
    struct mqb_tensor_view seen = view;
    seen.data = weight ? x : NULL;
    if (q->save != NULL && q->load != NULL)
        check_saved(s, where, self, scheme, &seen, x);
}

/* ---- all combinations ---- */

struct counts {
    int worked, refused;
};

static void try_scheme(const struct subject *s, const struct mqb_scheme *scheme, struct counts *counts)
{
    char where[160];
    void *self;
    for (int kind = 0; kind < NUM_TENSORS; kind++) {
        snprintf(where, sizeof where, "%s, %d bit [%d, %d]%s%s%s%s, tensor %s", scheme->role == MQB_ROLE_WEIGHT ? "weight" : "activation",
                 (int)scheme->bits, (int)scheme->qmin, (int)scheme->qmax, scheme->symmetric ? ", symmetric" : "",
                 scheme->per_channel ? ", per channel" : "", scheme->pot_scale ? ", power of two" : "",
                 scheme->adaptive_sign ? ", adaptive sign" : "", tensor_names[kind]);
        mqb_status status = s->quantizer->create(mqb_host_table(), scheme, s->options, &self, &err);
        if (status != MQB_OK) {
            if (status != MQB_ERR_UNSUPPORTED || strlen(err.text) < 20)
                fail_msg("%s, %s: refused with status %d, \"%s\"", s->entry->id, where, (int)status, err.text);
            /* What hardware can run, it must be able to ask for with a scale a channel. */
            if (scheme->role == MQB_ROLE_WEIGHT && scheme->symmetric && !scheme->pot_scale && s->quantizer->undeployable[0] == NULL)
                fail_msg("%s refuses symmetric weights it should serve (%s): %s", s->entry->id, where, err.text);
            counts->refused++;
            return;
        }
        drive(s, where, self, scheme, (enum tensor)kind);
        s->quantizer->destroy(self);
        counts->worked++;
    }
}

static void try_subject(const struct subject *s, struct counts *counts)
{
    for (int role = MQB_ROLE_WEIGHT; role <= MQB_ROLE_ACTIVATION; role++) {
        if (!(s->quantizer->flags & (role == MQB_ROLE_WEIGHT ? MQB_QUANTIZER_WEIGHTS : MQB_QUANTIZER_ACTIVATIONS)))
            continue;
        for (int bits = 2; bits <= 8; bits++)
            for (int form = 0; form < 32; form++) {
                struct mqb_scheme scheme = {.struct_size = sizeof scheme, .role = role, .bits = bits, .num_channels = 1, .tensor = "t"};
                bool is_signed = form & 1, narrow = form & 8;
                scheme.symmetric = (form & 2) != 0;
                scheme.per_channel = (form & 4) != 0;
                scheme.pot_scale = (form & 16) != 0;
                if ((scheme.per_channel && role != MQB_ROLE_WEIGHT) || (narrow && !is_signed) || (scheme.symmetric && !is_signed))
                    continue;
                scheme.adaptive_sign = scheme.symmetric && role == MQB_ROLE_ACTIVATION && !narrow;
                scheme.qmin = (is_signed ? -(1 << (bits - 1)) : 0) + narrow;
                scheme.qmax = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
                scheme.num_channels = scheme.per_channel ? CHANNELS : 1;
                try_scheme(s, &scheme, counts);
            }
    }
}

static void test_every_algorithm_works_or_says_why_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < mqb_registry_count(registry, MQB_KIND_QUANTIZER); i++) {
        struct subject s = {.entry = mqb_registry_at(registry, MQB_KIND_QUANTIZER, i, true)};
        struct counts counts = {0};
        s.quantizer = s.entry->vtable;
        if (s.quantizer == NULL)
            fail_msg("%s could not be opened", s.entry->id);
        OK(mqb_registry_options(registry, s.entry, s.quantizer->options, s.quantizer->num_options, NULL, NULL, 0, &s.options, &err));
        try_subject(&s, &counts);
        mqb_options_destroy(s.options);
        printf("%-14s %5d combinations work, %4d schemes are refused with a reason\n", s.entry->id, counts.worked, counts.refused);
        assert_true(counts.worked > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_algorithm_works_or_says_why_not)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
