/* program_check.h - for tests: contracts as different as they come, and an integer program held against naive_program.h. */
#ifndef PROGRAM_CHECK_H
#define PROGRAM_CHECK_H

#include "hand_layers.h"
#include "naive_integers.h"
#include "naive_program.h"

/* The own kernels, and a provider's. */
static const struct mqb_compute *const providers[] = {NULL, &naive_integers};

/* Contracts as different as they come. pot: scales must be powers of two. */
static inline struct mqb_backend_rules contract_at(int index, bool *pot)
{
    struct mqb_backend_rules rules = hand_rules(MQB_MULTIPLIER_F32, MQB_ROUND_RNE);
    struct mqb_contract *c = &rules.contract;
    *pot = false;
    switch (index) {
    case 0: /* float epilogue, ties to even */
        c->add_rule = MQB_ADD_F32;
        break;
    case 1: /* double, ties away */
        *c = (struct mqb_contract){.struct_size = sizeof(*c),
                                   .fold = MQB_FOLD_F64,
                                   .multiplier = MQB_MULTIPLIER_F64,
                                   .rounding = MQB_ROUND_RHA,
                                   .bias_rounding = MQB_ROUND_RHA,
                                   .input_rounding = MQB_ROUND_RHA,
                                   .add_rule = MQB_ADD_RESCALE_SUM};
        break;
    case 2: /* fixed point, one rounding */
        c->fold = MQB_FOLD_F64;
        c->multiplier = MQB_MULTIPLIER_Q31;
        break;
    case 3: /* fixed point, two roundings */
        c->multiplier = MQB_MULTIPLIER_Q31_DOUBLE;
        c->accumulator = MQB_ACCUMULATOR_I32_SATURATE;
        break;
    case 4: /* shifts */
        c->multiplier = MQB_MULTIPLIER_POT;
        c->rounding = MQB_ROUND_RHU;
        *pot = true;
        break;
    case 5: /* halves between the layers */
        c->intermediate = MQB_INTERMEDIATE_F16;
        c->zp_before = 1;
        c->add_rule = MQB_ADD_F32;
        c->pool_rule = MQB_POOL_F32;
        break;
    case 6: /* bias in float */
        c->bias_form = MQB_BIAS_F32;
        c->add_rule = MQB_ADD_FMA;
        c->input_divide = 1;
        break;
    case 7: /* float, half up, saturated to 16 bits on the way */
        c->rounding = MQB_ROUND_RHU;
        c->intermediate = MQB_INTERMEDIATE_I16_SATURATING;
        c->pool_rule = MQB_POOL_F32;
        break;
    case 8: /* floats between the layers, bias among them, quotients and half up */
        c->intermediate = MQB_INTERMEDIATE_F32;
        c->rounding = c->input_rounding = MQB_ROUND_RHU;
        c->bias_form = MQB_BIAS_F32;
        c->input_divide = 1;
        break;
    case 9: /* pairs of products in 16 bits */
        c->accumulator = MQB_ACCUMULATOR_I16_PAIRS;
        break;
    case 10: /* down, everywhere */
        c->rounding = c->bias_rounding = c->input_rounding = MQB_ROUND_FLOOR;
        c->add_rule = MQB_ADD_RESCALE_SUM;
        break;
    case 11: /* to zero in double, the zero point before */
        c->fold = MQB_FOLD_F64;
        c->multiplier = MQB_MULTIPLIER_F64;
        c->rounding = c->bias_rounding = c->input_rounding = MQB_ROUND_TRUNC;
        c->zp_before = 1;
        c->add_rule = MQB_ADD_F32;
        break;
    default: /* fixed point, saturated to 16 bits, sums in pairs but of filters on one channel each */
        c->multiplier = MQB_MULTIPLIER_Q31;
        c->intermediate = MQB_INTERMEDIATE_I16_SATURATING;
        c->bias_rounding = MQB_ROUND_RHU;
        c->accumulator = MQB_ACCUMULATOR_I16_PAIRS_ORT;
        break;
    }
    return rules;
}
#define NUM_CONTRACTS 13

static inline float *random_images(struct hand_net *net, int n, int64_t size, float range)
{
    float *x = malloc((size_t)(n * size) * sizeof(float));
    for (int64_t i = 0; i < n * size; i++)
        x[i] = (hand_uniform(net) * 2 - 1) * range;
    return x;
}

/* Every tensor and the logits of every image. */
static inline void compare(struct hand_net *net, const struct mqb_program *program, const struct mqb_contract *contract,
                           struct mqb_pool *pool, int n, const float *x)
{
    const struct mqb_graph *graph = net->graph;
    int num = mqb_program_num_tensors(program);
    int64_t classes = mqb_value_size(&graph->values[graph->output]), x_size = mqb_value_size(&graph->values[graph->input]);
    uint8_t **taps = calloc((size_t)num, sizeof(*taps));
    float *logits = malloc((size_t)(n * classes) * sizeof(float));
    for (int i = 0; i < num; i++)
        taps[i] = malloc((size_t)(n * mqb_program_tensor(program, i)->size));
    HAND_OK(mqb_program_run(program, pool, x, n, logits, taps, &net->error));
    for (int image = 0; image < n; image++) {
        struct naive_run run;
        naive_execute(&run, net, contract, x + image * x_size);
        for (int i = 0; i < num; i++) {
            const struct mqb_program_tensor *t = mqb_program_tensor(program, i);
            const struct naive_tensor *want = &run.tensors[t->value];
            assert_true(want->alive);
            assert_int_equal(t->size, want->c * want->h * want->w);
            assert_float_equal(t->scale, want->scale, 0);
            assert_int_equal(t->zero_point, want->z);
            for (int64_t c = 0; c < want->c; c++)
                for (int64_t h = 0; h < want->h; h++)
                    for (int64_t w = 0; w < want->w; w++) {
                        int32_t code = taps[i][image * t->size + (h * want->w + w) * want->c + c] - (t->is_signed ? 128 : 0);
                        if (code != naive_at(want, c, h, w))
                            fail_msg("contract %s, tensor %s, image %d, (%d %d %d): %d, expected %d", contract->profile,
                                     t->name, image, (int)c, (int)h, (int)w, (int)code, (int)naive_at(want, c, h, w));
                    }
        }
        const struct naive_tensor *out = &run.tensors[graph->output];
        for (int64_t k = 0; k < classes; k++) {
            float want = run.logits[k];
            if (out->alive) { /* the network ends in codes */
                int64_t pixels = out->h * out->w, c = k % out->c, i = k / out->c;
                want = out->scale * (float)(out->codes[c * pixels + i] - out->z);
            }
            assert_true(logits[image * classes + k] == want);
        }
        naive_free(&run);
    }
    for (int i = 0; i < num; i++)
        free(taps[i]);
    free(taps);
    free(logits);
}

#endif
