/*
 * plan_move.c - a slice, a pad, a concatenation or a flatten as few rectangles of runs: runs of one size at equal distances
 * make a row, rows alike at equal distances make a rectangle.
 */
#include "plan.h"

static int same_row(const struct tvm_block *a, const struct tvm_block *b)
{
    return a->input == b->input && a->size == b->size && a->n1 == b->n1 && a->from1 == b->from1 && a->to1 == b->to1;
}

/* The run lengthens the last block's first row, if that is still open. */
static int join_row(struct tvm_block *last, const struct tvm_block *run)
{
    if (last->n2 != 1 || last->input != run->input || last->size != run->size)
        return 0;
    int32_t from1 = run->from - last->from, to1 = run->to - last->to;
    if (last->n1 == 1) {
        last->from1 = from1;
        last->to1 = to1;
    } else if (from1 != last->n1 * last->from1 || to1 != last->n1 * last->to1) {
        return 0;
    }
    last->n1++;
    return 1;
}

static int join_rectangle(struct tvm_block *last, const struct tvm_block *row)
{
    int32_t from2 = row->from - last->from, to2 = row->to - last->to;
    if (!same_row(last, row))
        return 0;
    if (last->n2 == 1) {
        last->from2 = from2;
        last->to2 = to2;
    } else if (from2 != last->n2 * last->from2 || to2 != last->n2 * last->to2) {
        return 0;
    }
    last->n2++;
    return 1;
}

/* Joins rows that follow each other; the list shrinks in place. */
static int32_t join_rows(struct tvm_block *blocks, int32_t first, int32_t num)
{
    int32_t kept = first;
    for (int32_t i = first; i < num; i++)
        if (kept == first || !join_rectangle(&blocks[kept - 1], &blocks[i]))
            blocks[kept++] = blocks[i];
    return kept;
}

/* Same codes, same place: the output needs no memory and no code. */
static int is_alias(const struct tvm_plan *plan, const struct tvm_layer *layer)
{
    const struct tvm_tensor *x = &plan->tensors[layer->step->inputs[0]], *y = &plan->tensors[layer->step->output];
    const struct tvm_block *block = layer->blocks;
    return layer->num_blocks == 1 && block->input == 0 && block->n1 == 1 && block->n2 == 1 && block->size == y->size &&
           x->size == y->size && layer->shift[0] == 0 && y->tensor->qmin <= x->tensor->qmin &&
           y->tensor->qmax >= x->tensor->qmax;
}

mqb_status tvm_plan_move(const struct tvm_plan *plan, struct tvm_layer *layer, struct mqb_error *error)
{
    const struct mqb_step *step = layer->step;
    int32_t num = 0;
    layer->blocks = plan->host->allocate(((size_t)step->num_runs + 1) * sizeof(layer->blocks[0]));
    if (!layer->blocks)
        return plan->host->fail(error, MQB_ERR_MEMORY, "no memory for the %d runs of layer \"%s\"", (int)step->num_runs,
                                layer->name);
    for (int32_t input = -1; input < step->num_inputs; input++) {
        int32_t first = num;
        for (int32_t i = 0; i < step->num_runs; i++) {
            const struct mqb_step_run *run = &step->runs[i];
            struct tvm_block block = {.input = input, .size = run->size, .n1 = 1, .n2 = 1, .from = run->from, .to = run->to};
            if (run->input != input)
                continue;
            if (input < 0)
                block.from = 0; /* filled: comes from nowhere */
            if (num == first || !join_row(&layer->blocks[num - 1], &block))
                layer->blocks[num++] = block;
        }
        num = join_rows(layer->blocks, first, num);
    }
    layer->num_blocks = num;
    layer->alias = is_alias(plan, layer);
    return MQB_OK;
}
