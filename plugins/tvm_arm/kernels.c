/*
 * kernels.c - the static functions of the generated file. They are text here; the tests compile and run it.
 *
 * The generated code is C99 and relies on nothing that C99 leaves open but 8- and 32-bit two's complement types, which
 * <stdint.h> promises where they exist; in particular negative numbers are not shifted.
 */
#include "plan.h"
#include "source_text.h"

static const char clamp_text[] = "static int32_t clamp(int32_t v, int32_t low, int32_t high)\n"
                                 "{\n"
                                 "    return v < low ? low : v > high ? high : v;\n"
                                 "}\n\n";

/* Up to |a| < 2^31. Multiplying saturates at 2^30, far outside any code. */
static const char rescale_head[] =
    "static int32_t rescale(int32_t a, int32_t shift)\n"
    "{\n"
    "    if (shift <= 0) {\n"
    "        const int32_t most = (int32_t)1 << (30 + shift);\n"
    "        return a >= most ? (int32_t)1 << 30 : a <= -most ? -((int32_t)1 << 30) : a * ((int32_t)1 << -shift);\n"
    "    }\n";

static const char *const rescale_texts[] = {
    [TVM_UPWARD] = "/* a / 2^shift to the nearest, halves up; a negative shift multiplies. */\n",
    [TVM_TONEAREST] = "/* a / 2^shift to the nearest, halves away from zero; a negative shift multiplies. */\n",
    [TVM_FLOOR] = "/* a / 2^shift rounded down; a negative shift multiplies. */\n",
};

static const char *const rescale_bodies[] = {
    [TVM_UPWARD] = "    return shift > 31 ? 0 : shift_down(a, shift) + (shift_down(a, shift - 1) & 1);\n}\n\n",
    [TVM_TONEAREST] =
        ("    if (shift > 31)\n"
         "        return 0;\n"
         "    return a >= 0 ? (a >> shift) + ((a >> (shift - 1)) & 1) : -((-a >> shift) + ((-a >> (shift - 1)) & 1));\n"
         "}\n\n"),
    [TVM_FLOOR] = "    return shift_down(a, shift > 31 ? 31 : shift);\n}\n\n",
};

static const char shift_down_text[] =
    "/* a / 2^shift rounded down, 0 <= shift <= 31. Compilers make one arithmetic shift of it. */\n"
    "static int32_t shift_down(int32_t a, int32_t shift)\n"
    "{\n"
    "    return a >= 0 ? a >> shift : ~(~a >> shift);\n"
    "}\n\n";

static const char window_struct[] =
    "/* A window that slides over an image: h x w pixels of c channels to p x q pixels of k channels. */\n"
    "struct window {\n"
    "    int32_t h, w, c, p, q, k;\n"
    "    int32_t r, s, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;\n"
    "};\n\n";

static const char conv_struct[] = "/* code = clamp(rescale(bias[k] + sum of x * weight)). Padding reads 0, which is code 0.\n"
                                  "   weight: [k][r][s][c / groups]; depthwise [r][s][k]; linear [k][c]. */\n"
                                  "struct layer {\n"
                                  "    const void *weight;  /* int8_t; packed: two codes a byte, the first in the low bits */\n"
                                  "    const int32_t *bias; /* or NULL */\n"
                                  "    int32_t packed, groups, keeps_sums, shift, low, high;\n"
                                  "    struct window at;\n"
                                  "};\n\n";

static const char store_text[] =
    "/* y: codes; or, of the network's last layer, the sums. */\n"
    "static void store(const struct layer *layer, int32_t sum, int32_t at, void *y)\n"
    "{\n"
    "    if (layer->keeps_sums)\n"
    "        ((int32_t *)y)[at] = sum;\n"
    "    else\n"
    "        ((int8_t *)y)[at] = (int8_t)clamp(rescale(sum, layer->shift), layer->low, layer->high);\n"
    "}\n\n";

static const char weights_text[] =
    "/* `size` weights from `at` on; packed ones are unpacked into the room. */\n"
    "static const int8_t *weights(const struct layer *layer, int32_t at, int32_t size, int8_t *room)\n"
    "{\n"
    "    const uint8_t *packed = layer->weight;\n"
    "    int32_t i;\n"
    "    if (!layer->packed)\n"
    "        return (const int8_t *)layer->weight + at;\n"
    "    for (i = 0; i < size; i++) {\n"
    "        const int32_t bits = (packed[(at + i) / 2] >> ((at + i) % 2 * 4)) & 15;\n"
    "        room[i] = (int8_t)(bits < 8 ? bits : bits - 16);\n"
    "    }\n"
    "    return room;\n"
    "}\n\n";

static const char conv_text[] =
    "/* Some output channels, of the filters from `weight` on. */\n"
    "static void conv_filters(const struct layer *layer, const int8_t *x, const int8_t *filters, int32_t first, int32_t end, "
    "void *y)\n"
    "{\n"
    "    const struct window a = layer->at;\n"
    "    const int32_t group_c = a.c / layer->groups, group_k = a.k / layer->groups, taps = a.r * a.s;\n"
    "    int32_t i, k, r, s, c;\n"
    "    for (i = 0; i < a.p * a.q; i++) {\n"
    "        const int32_t top = i / a.q * a.stride_h - a.pad_top, left = i % a.q * a.stride_w - a.pad_left;\n"
    "        for (k = first; k < end; k++) {\n"
    "            const int8_t *group = x + k / group_k * group_c;\n"
    "            int32_t sum = layer->bias ? layer->bias[k] : 0;\n"
    "            for (r = 0; r < a.r; r++) {\n"
    "                const int32_t h = top + r * a.dilation_h;\n"
    "                if (h < 0 || h >= a.h)\n"
    "                    continue;\n"
    "                for (s = 0; s < a.s; s++) {\n"
    "                    const int32_t w = left + s * a.dilation_w;\n"
    "                    const int8_t *pixel, *weight = filters + ((k - first) * taps + r * a.s + s) * group_c;\n"
    "                    if (w < 0 || w >= a.w)\n"
    "                        continue;\n"
    "                    pixel = group + (h * a.w + w) * a.c;\n"
    "                    for (c = 0; c < group_c; c++)\n"
    "                        sum += (int32_t)pixel[c] * weight[c];\n"
    "                }\n"
    "            }\n"
    "            store(layer, sum, i * a.k + k, y);\n"
    "        }\n"
    "    }\n"
    "}\n\n"
    "static void conv(const struct layer *layer, const int8_t *x, int8_t *room, void *y)\n"
    "{\n"
    "    const int32_t size = layer->at.c / layer->groups * layer->at.r * layer->at.s;\n"
    "    const int32_t all = layer->at.k, step = layer->packed ? 1 : all;\n"
    "    int32_t k;\n"
    "    for (k = 0; k < all; k += step)\n"
    "        conv_filters(layer, x, weights(layer, k * size, step * size, room), k, k + step, y);\n"
    "}\n\n";

static const char depthwise_text[] =
    "/* One filter a channel; 16 channels at a time. */\n"
    "static void depthwise(const struct layer *layer, const int8_t *x, int8_t *room, void *y)\n"
    "{\n"
    "    const struct window a = layer->at;\n"
    "    const int8_t *filters = weights(layer, 0, a.r * a.s * a.k, room);\n"
    "    int32_t i, k, j, r, s;\n"
    "    for (i = 0; i < a.p * a.q; i++) {\n"
    "        const int32_t top = i / a.q * a.stride_h - a.pad_top, left = i % a.q * a.stride_w - a.pad_left;\n"
    "        for (k = 0; k < a.k; k += 16) {\n"
    "            const int32_t n = a.k - k < 16 ? a.k - k : 16;\n"
    "            int32_t sum[16];\n"
    "            for (j = 0; j < n; j++)\n"
    "                sum[j] = layer->bias ? layer->bias[k + j] : 0;\n"
    "            for (r = 0; r < a.r; r++) {\n"
    "                const int32_t h = top + r * a.dilation_h;\n"
    "                if (h < 0 || h >= a.h)\n"
    "                    continue;\n"
    "                for (s = 0; s < a.s; s++) {\n"
    "                    const int32_t w = left + s * a.dilation_w;\n"
    "                    const int8_t *pixel, *weight = filters + (r * a.s + s) * a.k + k;\n"
    "                    if (w < 0 || w >= a.w)\n"
    "                        continue;\n"
    "                    pixel = x + (h * a.w + w) * a.c + k;\n"
    "                    for (j = 0; j < n; j++)\n"
    "                        sum[j] += (int32_t)pixel[j] * weight[j];\n"
    "                }\n"
    "            }\n"
    "            for (j = 0; j < n; j++)\n"
    "                store(layer, sum[j], i * a.k + k + j, y);\n"
    "        }\n"
    "    }\n"
    "}\n\n";

static const char linear_text[] = "static void linear(const struct layer *layer, const int8_t *x, int8_t *room, void *y)\n"
                                  "{\n"
                                  "    const int32_t size = layer->at.c;\n"
                                  "    int32_t k, c;\n"
                                  "    for (k = 0; k < layer->at.k; k++) {\n"
                                  "        const int8_t *weight = weights(layer, k * size, size, room);\n"
                                  "        int32_t sum = layer->bias ? layer->bias[k] : 0;\n"
                                  "        for (c = 0; c < size; c++)\n"
                                  "            sum += (int32_t)x[c] * weight[c];\n"
                                  "        store(layer, sum, k, y);\n"
                                  "    }\n"
                                  "}\n\n";

static const char add_text[] = "/* Each operand is brought to the scale of the sum. b has `period` codes, which repeat. */\n"
                               "static void add(const int8_t *a, int32_t shift_a, const int8_t *b, int32_t shift_b, int32_t "
                               "size, int32_t period, int32_t low,\n"
                               "                int32_t high, int8_t *y)\n"
                               "{\n"
                               "    int32_t i, j = 0;\n"
                               "    for (i = 0; i < size; i++) {\n"
                               "        const int64_t sum = (int64_t)rescale(a[i], shift_a) + rescale(b[j], shift_b);\n"
                               "        y[i] = (int8_t)(sum < low ? low : sum > high ? high : sum);\n"
                               "        j = j + 1 < period ? j + 1 : 0;\n"
                               "    }\n"
                               "}\n\n";

static const char add_once_text[] =
    "/* Both operands are brought to the finer scale of the two (their shifts are not above 0), the sum is rounded. b has "
    "`period`\n"
    "   codes, which repeat. */\n"
    "static void add(const int8_t *a, int32_t shift_a, const int8_t *b, int32_t shift_b, int32_t shift, int32_t size, int32_t "
    "period,\n"
    "                int32_t low, int32_t high, int8_t *y)\n"
    "{\n"
    "    int32_t i, j = 0;\n"
    "    for (i = 0; i < size; i++) {\n"
    "        y[i] = (int8_t)clamp(rescale(rescale(a[i], shift_a) + rescale(b[j], shift_b), shift), low, high);\n"
    "        j = j + 1 < period ? j + 1 : 0;\n"
    "    }\n"
    "}\n\n";

static const char multiply_text[] = "/* b has `period` codes, which repeat. */\n"
                                    "static void multiply(const int8_t *a, const int8_t *b, int32_t size, int32_t period, "
                                    "int32_t shift, int32_t low, int32_t high,\n"
                                    "                     int8_t *y)\n"
                                    "{\n"
                                    "    int32_t i, j = 0;\n"
                                    "    for (i = 0; i < size; i++) {\n"
                                    "        y[i] = (int8_t)clamp(rescale((int32_t)a[i] * b[j], shift), low, high);\n"
                                    "        j = j + 1 < period ? j + 1 : 0;\n"
                                    "    }\n"
                                    "}\n\n";

static const char rescale_all_text[] =
    "/* To another scale and range; x may be y. */\n"
    "static void rescale_all(const int8_t *x, int32_t size, int32_t shift, int32_t low, int32_t high, int8_t *y)\n"
    "{\n"
    "    int32_t i;\n"
    "    for (i = 0; i < size; i++)\n"
    "        y[i] = (int8_t)clamp(rescale(x[i], shift), low, high);\n"
    "}\n\n";

static const char map_text[] = "/* A function as a table over all codes from -128. */\n"
                               "static void map(const int8_t *table, const int8_t *x, int32_t size, int8_t *y)\n"
                               "{\n"
                               "    int32_t i;\n"
                               "    for (i = 0; i < size; i++)\n"
                               "        y[i] = table[x[i] + 128];\n"
                               "}\n\n";

static const char max_pool_text[] =
    "static void max_pool(const struct window *at, const int8_t *x, int8_t *y)\n"
    "{\n"
    "    const struct window a = *at;\n"
    "    int32_t i, c, r, s;\n"
    "    for (i = 0; i < a.p * a.q; i++) {\n"
    "        const int32_t top = i / a.q * a.stride_h - a.pad_top, left = i % a.q * a.stride_w - a.pad_left;\n"
    "        for (c = 0; c < a.c; c++) {\n"
    "            int32_t most = -128;\n"
    "            for (r = top < 0 ? -top : 0; r < a.r && top + r < a.h; r++)\n"
    "                for (s = left < 0 ? -left : 0; s < a.s && left + s < a.w; s++) {\n"
    "                    const int32_t v = x[((top + r) * a.w + left + s) * a.c + c];\n"
    "                    most = v > most ? v : most;\n"
    "                }\n"
    "            y[i * a.c + c] = (int8_t)most;\n"
    "        }\n"
    "    }\n"
    "}\n\n";

/* a / (count 2^shift) for any sign of shift, exact in 64 bits: |a| < 2^31, count < 2^23, shift <= 30. */
static const char mean_head[] =
    "/* sum / (count * 2^shift), rounded like rescale. */\n"
    "static int32_t mean(int32_t sum, int32_t count, int32_t shift, int32_t low, int32_t high)\n"
    "{\n"
    "    const int64_t a = shift < 0 ? (int64_t)sum * ((int64_t)1 << -shift) : sum;\n"
    "    const int64_t d = shift > 0 ? (int64_t)count * ((int64_t)1 << (shift > 33 ? 33 : shift)) : count;\n";

static const char *const mean_bodies[] = {
    [TVM_UPWARD] = ("    const int64_t n = 2 * a + d;\n"
                    "    const int64_t v = n >= 0 ? n / (2 * d) : -((-n + 2 * d - 1) / (2 * d));\n"),
    [TVM_TONEAREST] = "    const int64_t v = a >= 0 ? (2 * a + d) / (2 * d) : -((-2 * a + d) / (2 * d));\n",
    [TVM_FLOOR] = "    const int64_t v = a >= 0 ? a / d : -((-a + d - 1) / d);\n",
};

static const char mean_tail[] = "    return (int32_t)(v < low ? low : v > high ? high : v);\n"
                                "}\n\n";

static const char average_pool_text[] =
    "/* pad_bottom, pad_right: as far as padding counts in the divisor; -1: padding does not count. */\n"
    "static void average_pool(const struct window *at, int32_t pad_bottom, int32_t pad_right, int32_t shift, int32_t low, "
    "int32_t high,\n"
    "                         const int8_t *x, int8_t *y)\n"
    "{\n"
    "    const struct window a = *at;\n"
    "    int32_t i, c, h, w;\n"
    "    for (i = 0; i < a.p * a.q; i++) {\n"
    "        const int32_t top = i / a.q * a.stride_h - a.pad_top, left = i % a.q * a.stride_w - a.pad_left;\n"
    "        const int32_t h0 = clamp(top, 0, a.h), h1 = clamp(top + a.r, 0, a.h);\n"
    "        const int32_t w0 = clamp(left, 0, a.w), w1 = clamp(left + a.s, 0, a.w);\n"
    "        int32_t count = (h1 - h0) * (w1 - w0);\n"
    "        if (pad_bottom >= 0)\n"
    "            count = (clamp(top + a.r, 0, a.h + pad_bottom) - top) * (clamp(left + a.s, 0, a.w + pad_right) - left);\n"
    "        for (c = 0; c < a.c; c++) {\n"
    "            int32_t sum = 0;\n"
    "            for (h = h0; h < h1; h++)\n"
    "                for (w = w0; w < w1; w++)\n"
    "                    sum += x[(h * a.w + w) * a.c + c];\n"
    "            y[i * a.c + c] = (int8_t)mean(sum, count, shift, low, high);\n"
    "        }\n"
    "    }\n"
    "}\n\n";

static const char block_struct[] = "/* n2 times n1 runs of `size` codes, at from + i2 * from2 + i1 * from1; `to` likewise. */\n"
                                   "struct block {\n"
                                   "    int32_t size, n1, n2, from, from1, from2, to, to1, to2;\n"
                                   "};\n\n";

static const char move_text[] =
    "static void move(const struct block *b, const int8_t *x, int8_t *y)\n"
    "{\n"
    "    int32_t i, j;\n"
    "    for (i = 0; i < b->n2; i++)\n"
    "        for (j = 0; j < b->n1; j++)\n"
    "            memcpy(y + b->to + i * b->to2 + j * b->to1, x + b->from + i * b->from2 + j * b->from1, (size_t)b->size);\n"
    "}\n\n";

static const char move_rescaled_text[] =
    "static void move_rescaled(const struct block *b, int32_t shift, int32_t low, int32_t high, const int8_t *x, int8_t *y)\n"
    "{\n"
    "    int32_t i, j, k;\n"
    "    for (i = 0; i < b->n2; i++)\n"
    "        for (j = 0; j < b->n1; j++) {\n"
    "            const int8_t *from = x + b->from + i * b->from2 + j * b->from1;\n"
    "            int8_t *to = y + b->to + i * b->to2 + j * b->to1;\n"
    "            for (k = 0; k < b->size; k++)\n"
    "                to[k] = (int8_t)clamp(rescale(from[k], shift), low, high);\n"
    "        }\n"
    "}\n\n";

static const char fill_text[] = "static void fill(const struct block *b, int32_t code, int8_t *y)\n"
                                "{\n"
                                "    int32_t i, j;\n"
                                "    for (i = 0; i < b->n2; i++)\n"
                                "        for (j = 0; j < b->n1; j++)\n"
                                "            memset(y + b->to + i * b->to2 + j * b->to1, code, (size_t)b->size);\n"
                                "}\n\n";

static const char shuffle_text[] =
    "/* Channel j of each pixel is channel from[j]. */\n"
    "static void shuffle(const uint16_t *from, const int8_t *x, int32_t pixels, int32_t channels, int8_t *y)\n"
    "{\n"
    "    int32_t i, j;\n"
    "    for (i = 0; i < pixels; i++)\n"
    "        for (j = 0; j < channels; j++)\n"
    "            y[i * channels + j] = x[i * channels + from[j]];\n"
    "}\n\n";

void tvm_add_kernels(struct text *text, const struct tvm_plan *plan)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < plan->steps->num_steps; i++)
        used |= tvm_kernels_of(plan, &plan->layers[i]);
    uint32_t layers = TVM_USES_CONV | TVM_USES_DEPTHWISE | TVM_USES_LINEAR;
    uint32_t clamps = layers | TVM_USES_ADD_ONCE | TVM_USES_MULTIPLY | TVM_USES_RESCALE_ALL | TVM_USES_MOVE_RESCALED;
    const struct {
        uint32_t uses; /* written if any of these is used */
        const char *text;
    } parts[] = {
        {clamps | TVM_USES_AVERAGE_POOL, clamp_text},
        {clamps | TVM_USES_ADD, plan->rounding == TVM_TONEAREST ? "" : shift_down_text},
        {clamps | TVM_USES_ADD, rescale_texts[plan->rounding]},
        {clamps | TVM_USES_ADD, rescale_head},
        {clamps | TVM_USES_ADD, rescale_bodies[plan->rounding]},
        {layers | TVM_USES_MAX_POOL | TVM_USES_AVERAGE_POOL, window_struct},
        {layers, conv_struct},
        {layers, store_text},
        {layers, weights_text},
        {TVM_USES_CONV, conv_text},
        {TVM_USES_DEPTHWISE, depthwise_text},
        {TVM_USES_LINEAR, linear_text},
        {TVM_USES_ADD, add_text},
        {TVM_USES_ADD_ONCE, add_once_text},
        {TVM_USES_MULTIPLY, multiply_text},
        {TVM_USES_RESCALE_ALL, rescale_all_text},
        {TVM_USES_MAP, map_text},
        {TVM_USES_MAX_POOL, max_pool_text},
        {TVM_USES_AVERAGE_POOL, mean_head},
        {TVM_USES_AVERAGE_POOL, mean_bodies[plan->rounding]},
        {TVM_USES_AVERAGE_POOL, mean_tail},
        {TVM_USES_AVERAGE_POOL, average_pool_text},
        {TVM_USES_MOVE | TVM_USES_MOVE_RESCALED | TVM_USES_FILL, block_struct},
        {TVM_USES_MOVE, move_text},
        {TVM_USES_MOVE_RESCALED, move_rescaled_text},
        {TVM_USES_FILL, fill_text},
        {TVM_USES_SHUFFLE, shuffle_text},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (used & parts[i].uses)
            text_copy(text, parts[i].text);
}
