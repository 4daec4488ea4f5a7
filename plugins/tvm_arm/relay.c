/*
 * relay.c - the same program as JSON, with TVM's operator names: for building it in TVM, and for reading.
 */
#include "plan.h"
#include "source_text.h"

static const char *op_name(const struct tvm_layer *layer, uint32_t kernels)
{
    switch (layer->step->kind) {
    case MQB_STEP_CONV:
        return kernels == TVM_USES_LINEAR ? "qnn.dense" : "qnn.conv2d";
    case MQB_STEP_MAP:
        return layer->formula ? "qnn.requantize" : "take";
    case MQB_STEP_ADD:
        return kernels == TVM_USES_ADD_ONCE ? "add" : "qnn.add";
    case MQB_STEP_MUL:
        return "qnn.mul";
    case MQB_STEP_MAX_POOL:
        return "nn.max_pool2d";
    case MQB_STEP_AVERAGE_POOL:
        return "nn.avg_pool2d";
    case MQB_STEP_SHUFFLE:
        return "channel_shuffle";
    default:
        return layer->alias ? "reshape" : "strided_copy";
    }
}

static void add_window(struct text *text, const struct mqb_conv_shape *s)
{
    text_add(text, ", \"kernel_size\": [%d, %d], \"strides\": [%d, %d], \"padding\": [%d, %d, %d, %d], \"dilation\": [%d, %d]",
             (int)s->r, (int)s->s, (int)s->stride_h, (int)s->stride_w, (int)s->pad_top, (int)s->pad_left, (int)s->pad_bottom,
             (int)s->pad_right, (int)s->dilation_h, (int)s->dilation_w);
}

static void add_attributes(struct text *text, const struct tvm_layer *layer, uint32_t kernels)
{
    const struct mqb_step *step = layer->step;
    int shifts = step->kind == MQB_STEP_ADD ? 2 : 1;
    text_copy(text, "\"attrs\": {");
    if (step->output == MQB_NONE) {
        text_add(text, "\"out_dtype\": \"int32\"");
    } else if (step->kind == MQB_STEP_MOVE) {
        text_add(text, "\"clip\": [%d, %d]", (int)step->low, (int)step->high);
    } else {
        text_add(text, "\"shift\": [%d", (int)layer->shift[0]);
        if (shifts == 2)
            text_add(text, ", %d", (int)layer->shift[1]);
        if (shifts == 2 && layer->sum_shift != 0)
            text_add(text, "], \"sum_shift\": [%d", (int)layer->sum_shift);
        text_add(text, "], \"clip\": [%d, %d]", (int)step->low, (int)step->high);
    }
    if (step->kind == MQB_STEP_CONV || step->kind == MQB_STEP_MAX_POOL || step->kind == MQB_STEP_AVERAGE_POOL) {
        if (kernels != TVM_USES_LINEAR)
            add_window(text, &step->shape);
        if (step->kind == MQB_STEP_CONV)
            text_add(text, ", \"channels\": %d, \"groups\": %d, \"bias\": %s", (int)step->shape.k, (int)step->shape.groups,
                     layer->bias ? "true" : "false");
        if (step->kind == MQB_STEP_AVERAGE_POOL)
            text_add(text, ", \"count_include_pad\": %s", step->count_pads ? "true" : "false");
    }
    text_copy(text, "}");
}

mqb_status tvm_write_relay(const struct tvm_plan *plan, const char *stem, struct mqb_error *error)
{
    static const char *const roundings[] = {"UPWARD", "TONEAREST", "FLOOR"};
    const struct mqb_steps *steps = plan->steps;
    struct text text = {.host = plan->host};
    char file[256];
    mqb_status status;
    snprintf(file, sizeof(file), "%s.relay.json", stem);
    text_copy(&text, "{\n  \"schema\": \"mqbench.tvm_arm/1\",\n  \"model\": ");
    text_add_string(&text, plan->request->model_name);
    text_add(&text, ",\n  \"layout\": \"NHWC\",\n  \"rounding\": \"%s\",\n  \"input\": %d,\n", roundings[plan->rounding],
             (int)steps->input);
    if (steps->output == MQB_NONE)
        text_copy(&text, "  \"output\": null,\n");
    else
        text_add(&text, "  \"output\": %d,\n", (int)steps->output);
    text_add(&text,
             "  \"output_exponent\": %d,\n  \"weight_bytes\": %lld,\n  \"bias_bytes\": %lld,\n  \"table_bytes\": %lld,\n"
             "  \"scratch_bytes\": %lld,\n  \"multiply_accumulates\": %lld,\n  \"tensors\": [",
             (int)plan->output_exponent, (long long)plan->weight_bytes, (long long)plan->bias_bytes,
             (long long)plan->table_bytes, (long long)plan->scratch_bytes, (long long)plan->multiplications);
    for (uint32_t i = 0; i < steps->num_tensors; i++) {
        const struct tvm_tensor *t = &plan->tensors[i];
        text_add(&text, "%s\n    {\"name\": ", i ? "," : "");
        text_add_string(&text, t->tensor->name);
        text_add(&text, ", \"shape\": [1, %d, %d, %d], \"dtype\": \"int8\", \"exponent\": %d, \"range\": [%d, %d]}",
                 (int)t->tensor->h, (int)t->tensor->w, (int)t->tensor->c, (int)t->exponent, (int)t->tensor->qmin,
                 (int)t->tensor->qmax);
    }
    text_copy(&text, "\n  ],\n  \"nodes\": [");
    for (uint32_t i = 0; i < steps->num_steps; i++) {
        const struct tvm_layer *layer = &plan->layers[i];
        uint32_t kernels = tvm_kernels_of(plan, layer);
        text_add(&text, "%s\n    {\"op\": \"%s\", \"name\": ", i ? "," : "", op_name(layer, kernels));
        text_add_string(&text, layer->name);
        text_copy(&text, ", \"inputs\": [");
        for (int32_t j = 0; j < layer->step->num_inputs; j++)
            text_add(&text, "%s%d", j ? ", " : "", (int)layer->step->inputs[j]);
        if (layer->step->output == MQB_NONE)
            text_copy(&text, "], \"output\": null, ");
        else
            text_add(&text, "], \"output\": %d, ", (int)layer->step->output);
        add_attributes(&text, layer, kernels);
        text_copy(&text, "}");
    }
    text_copy(&text, "\n  ]\n}\n");
    if (text.failed)
        status = plan->host->fail(error, MQB_ERR_MEMORY, "no memory for the text of %s", file);
    else
        status = plan->request->write_text(plan->request, file, text.data, text.length, error);
    plan->host->deallocate(text.data);
    return status;
}
