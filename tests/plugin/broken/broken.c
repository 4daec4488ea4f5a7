/*
 * broken.c - one source, many plugins: each build defines one BREAK_* and so breaks one rule of <mqbench/plugin.h>.
 * With none it is a good plugin with a quantizer "sample", a pass "sample" and a compute provider "sample".
 */
#include <mqbench/mqbench.h>

#if defined(BREAK_CONSTRUCTOR) || defined(BREAK_OTHER_MAJOR)
#include <stdlib.h>
#endif

static mqb_status sample_create(const struct mqb_host *host, const struct mqb_scheme *scheme, const struct mqb_options *options,
                                void **self, struct mqb_error *error)
{
    (void)scheme;
    (void)options;
    *self = NULL;
    return host->fail(error, MQB_ERR_UNSUPPORTED, "sample: this plugin is for tests and makes no instances");
}

static void sample_destroy(void *self)
{
    (void)self;
}

static mqb_status sample_observe(void *self, const struct mqb_tensor_view *x, struct mqb_error *error)
{
    (void)self;
    (void)x;
    (void)error;
    return MQB_OK;
}

static mqb_status sample_init(void *self, struct mqb_error *error)
{
    (void)self;
    (void)error;
    return MQB_OK;
}

static void sample_slice(const void *self, const struct mqb_slice *slice)
{
    (void)self;
    (void)slice;
}

static mqb_status sample_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    (void)self;
    (void)qparams;
    (void)error;
    return MQB_OK;
}

#if !defined(BREAK_NULL_OPTIONS)
static const struct mqb_option_spec sample_options[] = {
    {"bits", MQB_OPTION_INT, 0, "8", 2, 8, NULL, "width of the codes"},
    {"margin", MQB_OPTION_REAL, 0, "1.5", 0.5, 2.0, NULL, "widens the range"},
};
#endif

__attribute__((unused)) static const struct mqb_quantizer sample_quantizer = {
#if defined(BREAK_SMALL_VTABLE)
    .struct_size = offsetof(struct mqb_quantizer, forward),
#else
    .struct_size = sizeof(struct mqb_quantizer),
#endif
    .flags = MQB_QUANTIZER_WEIGHTS | MQB_QUANTIZER_ACTIVATIONS,
#ifdef SAMPLE_DESCRIPTION
    .description = SAMPLE_DESCRIPTION,
#else
    .description = "sample",
#endif
#if !defined(BREAK_NULL_OPTIONS)
    .options = sample_options,
#endif
    .num_options = 2,
#if defined(BREAK_NO_REDUCE)
    .sums_per_channel = 1,
#elif defined(BREAK_MANY_SUMS)
    .sums_per_channel = MQB_QUANTIZER_MAX_SUMS + 1,
#endif
    .create = sample_create,
    .destroy = sample_destroy,
    .observe = sample_observe,
    .init = sample_init,
    .forward = sample_slice,
#if !defined(BREAK_NULL_ENTRY)
    .backward = sample_slice,
#endif
    .qparams = sample_qparams,
};

static mqb_status sample_run(const struct mqb_host *host, struct mqb_graph *graph, const struct mqb_options *options,
                             int32_t *num_edits, struct mqb_error *error)
{
    (void)host;
    (void)graph;
    (void)options;
    (void)error;
    *num_edits = 0;
    return MQB_OK;
}

static const struct mqb_pass sample_pass = {
    .struct_size = sizeof(struct mqb_pass),
    .description = "does nothing",
    .run = sample_run,
};

static int32_t sample_score(const struct mqb_host *host)
{
    (void)host;
    return 0;
}

static mqb_status sample_conv_create(const struct mqb_host *host, const struct mqb_conv_shape *shape, int32_t max_images,
                                     struct mqb_conv_plan **plan, struct mqb_error *error)
{
    (void)shape;
    (void)max_images;
    (void)plan;
    return host->fail(error, MQB_ERR_UNSUPPORTED, "sample: this plugin is for tests and computes nothing");
}

static void sample_conv_destroy(struct mqb_conv_plan *plan)
{
    (void)plan;
}

static size_t sample_size(const struct mqb_conv_plan *plan)
{
    (void)plan;
    return 0;
}

static void sample_pack(const struct mqb_conv_plan *plan, const float *weight, int32_t gradients, void *packed)
{
    (void)plan;
    (void)weight;
    (void)gradients;
    (void)packed;
}

static void sample_forward(const struct mqb_conv_plan *plan, int32_t n, const float *x, const void *packed, const float *bias,
                           float *y, void *scratch)
{
    (void)plan;
    (void)n;
    (void)x;
    (void)packed;
    (void)bias;
    (void)y;
    (void)scratch;
}

static void sample_backward_data(const struct mqb_conv_plan *plan, int32_t n, const float *dy, const void *packed, float *dx,
                                 int32_t accumulate, void *scratch)
{
    (void)plan;
    (void)n;
    (void)dy;
    (void)packed;
    (void)dx;
    (void)accumulate;
    (void)scratch;
}

static void sample_backward_weights(const struct mqb_conv_plan *plan, int32_t n, const float *x, const float *dy, float *dw,
                                    void *scratch)
{
    (void)plan;
    (void)n;
    (void)x;
    (void)dy;
    (void)dw;
    (void)scratch;
}

static const struct mqb_compute sample_compute = {
    .struct_size = sizeof(struct mqb_compute),
    .description = "computes nothing",
    .score = sample_score,
    .conv_create = sample_conv_create,
    .conv_destroy = sample_conv_destroy,
    .conv_packed_size = sample_size,
    .conv_scratch_size = sample_size,
    .conv_pack = sample_pack,
    .conv_forward = sample_forward,
    .conv_backward_data = sample_backward_data,
    .conv_backward_weights = sample_backward_weights,
#if defined(BREAK_HALF_INTEGER)
    .iconv_packed_size = sample_size,
#endif
};

#if defined(BREAK_INTERFACE)
#define QUANTIZER_INTERFACE "mqb.quantizer/99"
#else
#define QUANTIZER_INTERFACE MQB_QUANTIZER_INTERFACE
#endif

#if defined(BREAK_NO_COMPONENT_ID)
#define QUANTIZER_ID NULL
#else
#define QUANTIZER_ID "sample"
#endif

#if defined(BREAK_NULL_VTABLE)
#define QUANTIZER_VTABLE NULL
#else
#define QUANTIZER_VTABLE &sample_quantizer
#endif

#if defined(BREAK_SMALL_COMPONENT)
#define QUANTIZER_SIZE 16
#else
#define QUANTIZER_SIZE sizeof(struct mqb_component)
#endif

static const struct mqb_component components[] = {
    {QUANTIZER_SIZE, 0, QUANTIZER_INTERFACE, QUANTIZER_ID, QUANTIZER_VTABLE},
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "sample", &sample_pass},
    {sizeof(struct mqb_component), 0, MQB_COMPUTE_INTERFACE, "sample", &sample_compute},
#if defined(BREAK_TWINS)
    {sizeof(struct mqb_component), 0, MQB_PASS_INTERFACE, "sample", &sample_pass},
#endif
};

/* What the constructors do before anybody asked for anything. */
#if defined(BREAK_CONSTRUCTOR) || defined(BREAK_OTHER_MAJOR)
__attribute__((constructor)) static void leave_trace(void)
{
    setenv("MQB_TEST_CONSTRUCTOR_RAN", "yes", 1);
}
#endif
#if defined(BREAK_FLUSH_TO_ZERO) || defined(BREAK_ROUNDING)
__attribute__((constructor)) static void change_float_mode(void)
{
#if defined(__x86_64__) && defined(BREAK_FLUSH_TO_ZERO)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040u); /* what -ffast-math links in */
#elif defined(__x86_64__)
    unsigned short control = 0x0f7f; /* x87: round towards zero */
    __asm__ volatile("fldcw %0" : : "m"(control));
#elif defined(__aarch64__)
    unsigned long fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr | (1ul << 24)));
#endif
}
#endif
#if defined(BREAK_UNRESOLVED)
void a_function_that_is_nowhere(void);
__attribute__((used)) static void (*const needed)(void) = a_function_that_is_nowhere;
#endif

#ifndef SAMPLE_VERSION
#define SAMPLE_VERSION "1.0.0"
#endif

#if defined(BREAK_NO_SYMBOL)
MQB_EXPORT const void *const mqb_not_an_entry;
const void *const mqb_not_an_entry = components;
#else
MQB_EXPORT const struct mqb_plugin_entry mqb_plugin_entry_v1;
const struct mqb_plugin_entry mqb_plugin_entry_v1 = {
#if defined(BREAK_SHORT_ENTRY)
    .struct_size = offsetof(struct mqb_plugin_entry, components),
#else
    .struct_size = sizeof(struct mqb_plugin_entry),
#endif
#if defined(BREAK_MAGIC)
    .magic = 0x464c457fu,
#else
    .magic = MQB_PLUGIN_MAGIC,
#endif
#if defined(BREAK_OTHER_MAJOR)
    .abi_major = MQB_ABI_MAJOR + 1,
#else
    .abi_major = MQB_ABI_MAJOR,
#endif
#if defined(BREAK_NEWER_MINOR)
    .abi_minor = MQB_ABI_MINOR + 1,
#else
    .abi_minor = MQB_ABI_MINOR,
#endif
#if defined(BREAK_NEWER_HOST)
    .min_host_minor = MQB_ABI_MINOR + 1,
#endif
#if !defined(BREAK_NULL_ID)
    .id = "sample-plugin",
#endif
#if !defined(BREAK_NULL_VERSION)
    .version = SAMPLE_VERSION,
#endif
    .components = components,
#if !defined(BREAK_NO_COMPONENTS)
    .num_components = sizeof(components) / sizeof(components[0]),
#endif
#if defined(BREAK_STRIDE)
    .component_size = sizeof(components[0]) - 1,
#else
    .component_size = sizeof(components[0]),
#endif
};
#endif
