/*
 * source.c - the generated C99: constants of every layer, one call a layer, and the header with sizes.
 */
#include "plan.h"
#include "source_text.h"

#include <ctype.h>

#define NUMBERS_A_LINE 24

static int32_t num_steps(const struct tvm_plan *plan)
{
    return (int32_t)plan->steps->num_steps;
}

static void add_numbers_begin(struct text *text, const char *type, const char *name, int32_t index, int64_t size)
{
    text_add(text, "static const %s %s_%d[%lld] = {", type, name, (int)index, (long long)size);
}

static void add_number(struct text *text, int64_t position, int32_t number)
{
    text_add(text, "%s%d,", position % NUMBERS_A_LINE == 0 ? "\n    " : " ", (int)number);
}

static void add_numbers_end(struct text *text)
{
    text_copy(text, "\n};\n");
}

/* The code at this position of the order in which the layer's function reads them; 0 behind the last. */
static int32_t weight_at(const struct tvm_layer *layer, uint32_t kernel, int64_t position)
{
    const struct mqb_conv_shape *s = &layer->step->shape;
    int64_t group_c = s->c / s->groups, taps = (int64_t)s->r * s->s;
    if (position >= layer->num_weights)
        return 0;
    if (kernel == TVM_USES_DEPTHWISE)
        return layer->weight[position % s->k * taps + position / s->k];
    return layer->weight[(position / (taps * group_c) * group_c + position % group_c) * taps + position / group_c % taps];
}

static void add_weights(struct text *text, const struct tvm_layer *layer, int32_t index, uint32_t kernel)
{
    int64_t size = layer->packed ? (layer->num_weights + 1) / 2 : layer->num_weights;
    add_numbers_begin(text, layer->packed ? "uint8_t" : "int8_t", "weight", index, size);
    for (int64_t i = 0; i < size; i++)
        add_number(text, i,
                   layer->packed ? (weight_at(layer, kernel, 2 * i) & 15) + ((weight_at(layer, kernel, 2 * i + 1) & 15) << 4)
                                 : weight_at(layer, kernel, i));
    add_numbers_end(text);
}

static void add_window(struct text *text, const struct mqb_conv_shape *s)
{
    text_add(text, "{%d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d}", (int)s->h, (int)s->w, (int)s->c, (int)s->p,
             (int)s->q, (int)s->k, (int)s->r, (int)s->s, (int)s->stride_h, (int)s->stride_w, (int)s->pad_top, (int)s->pad_left,
             (int)s->dilation_h, (int)s->dilation_w);
}

static void add_layer_constants(struct text *text, const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t index)
{
    const struct mqb_step *step = layer->step;
    add_weights(text, layer, index, tvm_kernels_of(plan, layer));
    if (layer->bias) {
        add_numbers_begin(text, "int32_t", "bias", index, layer->num_bias);
        for (int64_t k = 0; k < layer->num_bias; k++)
            add_number(text, k, layer->bias[k]);
        add_numbers_end(text);
    }
    text_add(text, "static const struct layer layer_%d = {weight_%d, ", (int)index, (int)index);
    if (layer->bias)
        text_add(text, "bias_%d", (int)index);
    else
        text_copy(text, "NULL");
    int sums = step->output == MQB_NONE;
    text_add(text, ", %d, %d, %d, %d, %d, %d, ", (int)layer->packed, (int)step->shape.groups, sums, (int)layer->shift[0],
             sums ? 0 : (int)step->low, sums ? 0 : (int)step->high);
    add_window(text, &step->shape);
    text_copy(text, "};\n");
}

static void add_table(struct text *text, const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t index)
{
    const struct mqb_step_tensor *x = plan->tensors[layer->step->inputs[0]].tensor,
                                 *y = plan->tensors[layer->step->output].tensor;
    add_numbers_begin(text, "int8_t", "table", index, 256);
    for (int32_t q = -128; q < 128; q++) {
        int occurs = q >= x->qmin && q <= x->qmax;
        int32_t code = occurs ? (int32_t)layer->step->table[q + (x->qmin < 0 ? 128 : 0)] - (y->qmin < 0 ? 128 : 0) : 0;
        add_number(text, q + 128, code);
    }
    add_numbers_end(text);
}

/* What stands before the run function for one layer. */
static void add_constants(struct text *text, const struct tvm_plan *plan, int32_t index)
{
    const struct tvm_layer *layer = &plan->layers[index];
    const struct mqb_step *step = layer->step;
    uint32_t kernels = tvm_kernels_of(plan, layer);
    if (layer->alias || step->kind == MQB_STEP_ADD || step->kind == MQB_STEP_MUL ||
        (step->kind == MQB_STEP_MAP && layer->formula))
        return;
    text_add(text, "\n/* %d: ", (int)index);
    text_add_comment(text, layer->name);
    text_add(text, ", %s */\n", layer->op);
    if (step->kind == MQB_STEP_CONV) {
        add_layer_constants(text, plan, layer, index);
    } else if (step->kind == MQB_STEP_MAP) {
        add_table(text, plan, layer, index);
    } else if (step->kind == MQB_STEP_SHUFFLE) {
        int32_t channels = plan->tensors[step->output].tensor->c;
        add_numbers_begin(text, "uint16_t", "channels", index, channels);
        for (int32_t c = 0; c < channels; c++)
            add_number(text, c, step->permutation[c]);
        add_numbers_end(text);
    } else if (kernels & (TVM_USES_MAX_POOL | TVM_USES_AVERAGE_POOL)) {
        text_add(text, "static const struct window window_%d = ", (int)index);
        add_window(text, &step->shape);
        text_copy(text, ";\n");
    } else {
        text_add(text, "static const struct block blocks_%d[%d] = {\n", (int)index, (int)layer->num_blocks);
        for (int32_t i = 0; i < layer->num_blocks; i++) {
            const struct tvm_block *b = &layer->blocks[i];
            text_add(text, "    {%d, %d, %d, %d, %d, %d, %d, %d, %d},\n", (int)b->size, (int)b->n1, (int)b->n2, (int)b->from,
                     (int)b->from1, (int)b->from2, (int)b->to, (int)b->to1, (int)b->to2);
        }
        text_copy(text, "};\n");
    }
}

/* ---- the calls ---- */

static void add_moves(struct text *text, const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t index)
{
    const struct mqb_step *step = layer->step;
    text_copy(text, "    /* ");
    text_add_comment(text, layer->name);
    text_copy(text, " */\n");
    for (int32_t i = 0; i < layer->num_blocks; i++) {
        int32_t input = layer->blocks[i].input;
        if (input < 0)
            text_add(text, "    fill(&blocks_%d[%d], %d, t%d);\n", (int)index, (int)i, (int)step->pad, (int)step->output);
        else if (tvm_needs_rescale(plan, layer, input))
            text_add(text, "    move_rescaled(&blocks_%d[%d], %d, %d, %d, t%d, t%d);\n", (int)index, (int)i,
                     (int)tvm_input_shift(plan, layer, input), (int)step->low, (int)step->high, (int)step->inputs[input],
                     (int)step->output);
        else
            text_add(text, "    move(&blocks_%d[%d], t%d, t%d);\n", (int)index, (int)i, (int)step->inputs[input],
                     (int)step->output);
    }
}

static void add_conv_call(struct text *text, const struct tvm_plan *plan, const struct tvm_layer *layer, int32_t index)
{
    uint32_t kernel = tvm_kernels_of(plan, layer);
    const char *name = kernel == TVM_USES_DEPTHWISE ? "depthwise" : kernel == TVM_USES_LINEAR ? "linear" : "conv";
    text_add(text, "    %s(&layer_%d, t%d, ", name, (int)index, (int)layer->step->inputs[0]);
    if (layer->packed)
        text_add(text, "base + %lld, ", (long long)plan->room_place);
    else
        text_copy(text, "NULL, ");
    if (layer->step->output == MQB_NONE)
        text_copy(text, "output);");
    else
        text_add(text, "t%d);", (int)layer->step->output);
}

static void add_rescale_call(struct text *text, const struct tvm_layer *layer, int32_t from, int64_t size)
{
    const struct mqb_step *step = layer->step;
    text_add(text, "    rescale_all(t%d, %lld, %d, %d, %d, t%d);", (int)from, (long long)size, (int)layer->shift[0],
             (int)step->low, (int)step->high, (int)step->output);
}

static void add_call(struct text *text, const struct tvm_plan *plan, int32_t index)
{
    const struct tvm_layer *layer = &plan->layers[index];
    const struct mqb_step *step = layer->step;
    int a = (int)step->inputs[0], b = step->num_inputs > 1 ? (int)step->inputs[1] : 0, y = (int)step->output;
    long long size = step->output == MQB_NONE ? 0 : (long long)plan->tensors[y].size;
    switch (step->kind) {
    case MQB_STEP_CONV:
        add_conv_call(text, plan, layer, index);
        break;
    case MQB_STEP_MAP:
        if (layer->formula)
            add_rescale_call(text, layer, a, size);
        else
            text_add(text, "    map(table_%d, t%d, %lld, t%d);", (int)index, a, size, y);
        break;
    case MQB_STEP_ADD:
        text_add(text, "    add(t%d, %d, t%d, %d, ", a, (int)layer->shift[0], b, (int)layer->shift[1]);
        if (plan->adds_once)
            text_add(text, "%d, ", (int)layer->sum_shift);
        text_add(text, "%lld, %lld, %d, %d, t%d);", size, (long long)plan->tensors[b].size, (int)step->low, (int)step->high, y);
        break;
    case MQB_STEP_MUL:
        text_add(text, "    multiply(t%d, t%d, %lld, %lld, %d, %d, %d, t%d);", a, b, size, (long long)plan->tensors[b].size,
                 (int)layer->shift[0], (int)step->low, (int)step->high, y);
        break;
    case MQB_STEP_MAX_POOL:
        text_add(text, "    max_pool(&window_%d, t%d, t%d);", (int)index, a, y);
        break;
    case MQB_STEP_AVERAGE_POOL:
        text_add(text, "    average_pool(&window_%d, %d, %d, %d, %d, %d, t%d, t%d);", (int)index,
                 step->count_pads ? (int)step->shape.pad_bottom : -1, step->count_pads ? (int)step->shape.pad_right : -1,
                 (int)layer->shift[0], (int)step->low, (int)step->high, a, y);
        break;
    case MQB_STEP_SHUFFLE:
        text_add(text, "    shuffle(channels_%d, t%d, %lld, %d, t%d);", (int)index, a, size / plan->tensors[y].tensor->c,
                 (int)plan->tensors[y].tensor->c, y);
        break;
    default:
        if (!layer->alias)
            add_moves(text, plan, layer, index);
        return;
    }
    text_copy(text, " /* ");
    text_add_comment(text, layer->name);
    text_copy(text, " */\n");
    if ((step->kind == MQB_STEP_MAX_POOL || step->kind == MQB_STEP_SHUFFLE) && tvm_needs_rescale(plan, layer, 0)) {
        add_rescale_call(text, layer, y, size);
        text_copy(text, "\n");
    }
}

static void add_pointer(struct text *text, const struct tvm_plan *plan, int32_t index)
{
    const struct tvm_tensor *t = &plan->tensors[index];
    if (index == plan->steps->input)
        text_add(text, "    const int8_t *const t%d = input;", (int)index);
    else if (t->root != index)
        text_add(text, "    const int8_t *const t%d = t%d;", (int)index, (int)t->root);
    else
        text_add(text, "    int8_t *const t%d = base + %lld;", (int)index, (long long)t->place);
    text_add(text, " /* %d x %d x %d, 2^%d: ", (int)t->tensor->h, (int)t->tensor->w, (int)t->tensor->c, (int)t->exponent);
    text_add_comment(text, t->tensor->name);
    text_copy(text, " */\n");
}

static void add_tap(struct text *text, const struct tvm_plan *plan, int32_t index, const char *upper)
{
    if (index != MQB_NONE)
        text_add(text, "    %s_TAP(%d, t%d, %lld);\n", upper, (int)index, (int)index, (long long)plan->tensors[index].size);
}

static void add_run(struct text *text, const struct tvm_plan *plan, const char *name, const char *upper)
{
    int32_t num_tensors = (int32_t)plan->steps->num_tensors, output = plan->steps->output;
    text_add(text, "\nvoid %s_run(const int8_t *input, int32_t *output, void *scratch)\n{\n", name);
    text_copy(text, "    int8_t *const base = scratch;\n");
    for (int32_t i = 0; i < num_tensors; i++)
        add_pointer(text, plan, i);
    if (output != MQB_NONE)
        text_copy(text, "    int32_t i;\n");
    text_copy(text, "\n    (void)base;\n");
    add_tap(text, plan, plan->steps->input, upper);
    for (int32_t i = 0; i < num_steps(plan); i++) {
        add_call(text, plan, i);
        add_tap(text, plan, plan->layers[i].step->output, upper);
    }
    if (output != MQB_NONE)
        text_add(text, "    for (i = 0; i < %s_OUTPUT_SIZE; i++)\n        output[i] = t%d[i];\n", upper, (int)output);
    text_copy(text, "}\n");
}

static void add_quantize(struct text *text, const struct tvm_plan *plan, const char *name, const char *upper)
{
    const struct tvm_tensor *x = &plan->tensors[plan->steps->input];
    text_add(text, "\nvoid %s_quantize(const float *image, int8_t *input)\n{\n    int32_t i;\n", name);
    text_add(text, "    for (i = 0; i < %s_INPUT_SIZE; i++) {\n", upper);
    text_add(text, "        const float v = image[i] * 0x1p%+df;\n", -(int)x->exponent);
    text_add(text, "        int32_t code = !(v > %d.0f) ? %d : v >= %d.0f ? %d : (int32_t)v;\n", (int)x->tensor->qmin,
             (int)x->tensor->qmin, (int)x->tensor->qmax, (int)x->tensor->qmax);
    text_add(text, "        if (v - (float)code >= 0.5f && code < %d)\n            code++;\n", (int)x->tensor->qmax);
    text_add(text, "        if (v - (float)code <= -0.5f && code > %d)\n            code--;\n", (int)x->tensor->qmin);
    text_copy(text, "        input[i] = (int8_t)code;\n    }\n}\n");
}

/* A name in capitals, for macros. */
static void to_upper(char *upper, size_t size, const char *name)
{
    size_t i = 0;
    for (; name[i] && i + 1 < size; i++)
        upper[i] = (char)toupper((unsigned char)name[i]);
    upper[i] = '\0';
}

static mqb_status finish(const struct tvm_plan *plan, struct text *text, const char *stem, const char *suffix,
                         struct mqb_error *error)
{
    char file[256];
    mqb_status status;
    snprintf(file, sizeof(file), "%s.%s", stem, suffix);
    if (text->failed)
        status = plan->host->fail(error, MQB_ERR_MEMORY, "no memory for the text of %s", file);
    else
        status = plan->request->write_text(plan->request, file, text->data, text->length, error);
    plan->host->deallocate(text->data);
    return status;
}

mqb_status tvm_write_source(const struct tvm_plan *plan, const char *name, const char *stem, struct mqb_error *error)
{
    struct text text = {.host = plan->host};
    char upper[256];
    to_upper(upper, sizeof(upper), name);
    text_copy(&text, "/* Made by mqbench for the backend tvm_arm; the header says what it is. */\n");
    text_add(&text, "#include \"%s.h\"\n\n#include <string.h>\n\n", stem);
    text_add(&text,
             "/* Define it to see the codes of every tensor as they are made: its number in the run function, codes, size. */\n"
             "#ifndef %s_TAP\n#define %s_TAP(tensor, codes, size)\n#endif\n\n",
             upper, upper);
    tvm_add_kernels(&text, plan);
    for (int32_t i = 0; i < num_steps(plan); i++)
        add_constants(&text, plan, i);
    add_run(&text, plan, name, upper);
    add_quantize(&text, plan, name, upper);
    return finish(plan, &text, stem, "c", error);
}

mqb_status tvm_write_header(const struct tvm_plan *plan, const char *name, const char *stem, struct mqb_error *error)
{
    static const char *const roundings[] = {"halves up", "halves away from zero", "down"};
    const struct tvm_tensor *x = &plan->tensors[plan->steps->input];
    struct text text = {.host = plan->host};
    char upper[256];
    to_upper(upper, sizeof(upper), name);
    text_copy(&text, "/*\n * An integer network in plain C99: signed bytes, power-of-two scales, shifts (");
    text_add(&text, "%s).\n * Made by mqbench for the backend tvm_arm from ", roundings[plan->rounding]);
    text_add_comment(&text, plan->request->model_name);
    text_add(&text, ".\n *\n * flash: %lld bytes of constants (weights %lld, biases %lld, tables %lld), beside the code\n",
             (long long)(plan->weight_bytes + plan->bias_bytes + plan->table_bytes), (long long)plan->weight_bytes,
             (long long)plan->bias_bytes, (long long)plan->table_bytes);
    text_add(&text, " * RAM:   %lld bytes of scratch, beside input (%lld) and output (%lld)\n", (long long)plan->scratch_bytes,
             (long long)x->size, (long long)(4 * plan->output_size));
    text_add(&text, " * work:  %lld multiply-accumulates a run\n */\n", (long long)plan->multiplications);
    text_add(&text, "#ifndef %s_H\n#define %s_H\n\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n",
             upper, upper);
    text_add(&text, "#define %s_INPUT_HEIGHT %d\n#define %s_INPUT_WIDTH %d\n#define %s_INPUT_CHANNELS %d\n", upper,
             (int)x->tensor->h, upper, (int)x->tensor->w, upper, (int)x->tensor->c);
    text_add(&text, "#define %s_INPUT_SIZE %lld\n#define %s_OUTPUT_SIZE %lld\n", upper, (long long)x->size, upper,
             (long long)plan->output_size);
    text_add(&text, "#define %s_INPUT_EXPONENT (%d) /* real = code * 2^exponent */\n#define %s_OUTPUT_EXPONENT (%d)\n", upper,
             (int)x->exponent, upper, (int)plan->output_exponent);
    text_add(&text, "#define %s_FLASH_BYTES %lld\n#define %s_SCRATCH_BYTES %lld\n\n", upper,
             (long long)(plan->weight_bytes + plan->bias_bytes + plan->table_bytes), upper,
             (long long)(plan->scratch_bytes > 0 ? plan->scratch_bytes : 1));
    text_copy(&text, "/* image: normalized as for the FP32 network, in the order [height][width][channel]. */\n");
    text_add(&text, "void %s_quantize(const float *image, int8_t *input);\n\n", name);
    text_add(
        &text,
        "/* scratch: %s_SCRATCH_BYTES bytes, any contents; output: %s_OUTPUT_SIZE logits. Nothing is kept between calls. */\n",
        upper, upper);
    text_add(&text, "void %s_run(const int8_t *input, int32_t *output, void *scratch);\n", name);
    text_copy(&text, "\n#ifdef __cplusplus\n}\n#endif\n#endif\n");
    return finish(plan, &text, stem, "h", error);
}
