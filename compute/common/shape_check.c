#include "shape_check.h"

enum { SIZE_LIMIT = 1 << 24 };

/* Number of elements; nonzero if it is out of reach. Four factors of at most 2^24 each. */
static int too_large(int32_t a, int32_t b, int32_t c, int32_t d)
{
    const uint64_t limit = (uint64_t)1 << 46;
    uint64_t size = (uint64_t)a * (uint64_t)b;

    return size > limit || __builtin_mul_overflow(size, (uint64_t)c, &size) || size > limit ||
           __builtin_mul_overflow(size, (uint64_t)d, &size) || size > limit;
}

static int64_t outputs(int32_t size, int32_t pad_before, int32_t pad_after, int32_t kernel, int32_t dilation, int32_t stride)
{
    int64_t room = (int64_t)size + pad_before + pad_after - (int64_t)dilation * (kernel - 1) - 1;

    return room < 0 ? 0 : room / stride + 1;
}

mqb_status shape_check(const struct mqb_host *host, const char *provider, const struct mqb_conv_shape *shape,
                       int32_t max_images, struct mqb_error *error)
{
    const struct mqb_conv_shape *s = shape;
    const int32_t sizes[] = {s->c, s->h,        s->w,        s->k,          s->r,          s->s,      s->p,
                             s->q, s->stride_h, s->stride_w, s->dilation_h, s->dilation_w, s->groups, max_images};
    const int32_t pads[] = {s->pad_top, s->pad_left, s->pad_bottom, s->pad_right};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (sizes[i] < 1 || sizes[i] > SIZE_LIMIT) {
            return host->fail(error, MQB_ERR_ARGUMENT,
                              "%s: a convolution has a size of %d; every size must lie in 1..%d: check the model's shapes",
                              provider, sizes[i], SIZE_LIMIT);
        }
    }
    for (size_t i = 0; i < sizeof(pads) / sizeof(pads[0]); i++) {
        if (pads[i] < 0 || pads[i] > SIZE_LIMIT) {
            return host->fail(error, MQB_ERR_ARGUMENT,
                              "%s: a convolution has a padding of %d; it must lie in 0..%d: check the model's pads", provider,
                              pads[i], SIZE_LIMIT);
        }
    }
    if (s->c % s->groups != 0 || s->k % s->groups != 0) {
        return host->fail(error, MQB_ERR_ARGUMENT,
                          "%s: %d input and %d output channels do not divide into %d groups: check the model's groups",
                          provider, s->c, s->k, s->groups);
    }
    if (outputs(s->h, s->pad_top, s->pad_bottom, s->r, s->dilation_h, s->stride_h) != s->p ||
        outputs(s->w, s->pad_left, s->pad_right, s->s, s->dilation_w, s->stride_w) != s->q) {
        return host->fail(error, MQB_ERR_ARGUMENT,
                          "%s: a %dx%d convolution of a %dx%d image cannot give %dx%d outputs with its stride, padding and "
                          "dilation: check the model's shapes",
                          provider, s->r, s->s, s->h, s->w, s->p, s->q);
    }
    if (too_large(max_images, s->h, s->w, s->c) || too_large(max_images, s->p, s->q, s->k) ||
        too_large(s->k, s->r, s->s, s->c / s->groups)) {
        return host->fail(error, MQB_ERR_MEMORY, "%s: a convolution's tensors are too large: take a smaller batch or image",
                          provider);
    }
    return MQB_OK;
}
