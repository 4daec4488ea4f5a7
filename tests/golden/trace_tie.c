/*
 * trace_tie.c - rounding ties of family 6. Where an element lies so near to a tie that another order of summation rounds it the
 * other way, the recorded step may be the one with the other rounding. A quantizer in front of the real one rounds one element
 * that way, so that the step can be held to the same bounds as any other.
 */
#include "trace.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int trace_find_ties(const struct trace *t, struct trace_tie *ties, int capacity)
{
    int num_ties = 0;
    for (int i = 0; i < t->points.num_points; i++) {
        const struct mqb_point *p = t->list[i];
        mqb_value_id in = t->g->nodes[p->node].inputs[0];
        const struct mqb_value *value = &t->g->values[in];
        const float *x = mqb_exec_value(t->exec, in);
        struct mqb_qparams q = {.struct_size = sizeof q};
        if (!x || p->quantizer->qparams(p->self, &q, NULL) != MQB_OK)
            continue;
        int64_t size = mqb_value_size(value) * (value->batched ? t->batch : 1), one = size / q.num_channels;
        for (int64_t k = 0; k < size && num_ties < capacity; k++) {
            double scale = (double)q.scale[k / one], v = (double)x[k] / scale, code = nearbyint(v) + q.zero_point[k / one];
            double reach = 4e-6 * fmax(1.0, fabs(v));
            if (code < q.qmin || code > q.qmax || !(fabs(fabs(v - nearbyint(v)) - 0.5) < reach))
                continue;
            /* To either side: which way the step itself went is a matter of its last bit. */
            for (int side = -1; side <= 1 && num_ties < capacity; side += 2)
                ties[num_ties++] = (struct trace_tie){i, k, (float)((v + 2.0 * side * reach) * scale)};
        }
    }
    return num_ties;
}

/* ---- the quantizer in front: the real one's calls, but for one element ---- */

static mqb_status front_prepare(void *self, const struct mqb_tensor_view *x, int training, struct mqb_error *error)
{
    struct trace_front *front = self;
    return front->real->prepare(front->self, x, training, error);
}

/* The slice's input with the element moved, or NULL if it is not there. */
static float *moved_input(const struct trace_front *front, const struct mqb_slice *slice)
{
    int64_t at = front->moved ? front->moved->index - (int64_t)slice->offset : -1;
    if (at < 0 || at >= slice->size)
        return NULL;
    float *x = malloc((size_t)slice->size * sizeof *x);
    if (!x)
        abort();
    memcpy(x, slice->x, (size_t)slice->size * sizeof *x);
    x[at] = front->moved->value;
    return x;
}

static void front_forward(const void *self, const struct mqb_slice *slice)
{
    const struct trace_front *front = self;
    struct mqb_slice copy = *slice;
    float *x = moved_input(front, slice);
    copy.x = x ? x : slice->x;
    front->real->forward(front->self, &copy);
    free(x);
}

static void front_backward(const void *self, const struct mqb_slice *slice)
{
    const struct trace_front *front = self;
    struct mqb_slice copy = *slice;
    float *x = moved_input(front, slice);
    copy.x = x ? x : slice->x;
    front->real->backward(front->self, &copy);
    free(x);
}

static void front_reduce(void *self, const double *sums)
{
    struct trace_front *front = self;
    front->real->reduce(front->self, sums);
}

static mqb_status front_param(void *self, uint32_t index, struct mqb_param *param)
{
    struct trace_front *front = self;
    return front->real->param(front->self, index, param);
}

static mqb_status front_qparams(const void *self, struct mqb_qparams *qparams, struct mqb_error *error)
{
    const struct trace_front *front = self;
    return front->real->qparams(front->self, qparams, error);
}

void trace_front_vtable(const struct mqb_quantizer *real, struct mqb_quantizer *vtable)
{
    *vtable = (struct mqb_quantizer){.struct_size = sizeof *vtable,
                                     .flags = real->flags,
                                     .sums_per_channel = real->sums_per_channel,
                                     .prepare = front_prepare,
                                     .forward = front_forward,
                                     .backward = front_backward,
                                     .reduce = front_reduce,
                                     .param = front_param,
                                     .qparams = front_qparams};
}
