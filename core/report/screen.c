/* screen.c - the result record as one screen of plain text. */
#include "report/costs.h"
#include "report/fold_proof.h"
#include "report/text.h"

#include <math.h>
#include <string.h>

#define WIDTH 100       /* columns */
#define LABEL 15        /* column of what follows a label */
#define NUM_WORST 8     /* layers shown */
#define BAR 22          /* columns of the longest bar */
#define NAME_WIDTH 26   /* of a layer's name */

struct screen {
    struct mqb_text text;
    const char *bold, *good, *bad, *dim, *plain; /* "" without colours */
};

static const char *or_dash(const char *text)
{
    return text != NULL && text[0] != '\0' ? text : "-";
}

static void label(struct screen *s, const char *name)
{
    mqb_text_add(&s->text, "  %s%-*s%s", s->dim, LABEL - 2, name, s->plain);
}

static void line(struct screen *s, const char *name, const char *sentence)
{
    label(s, name);
    mqb_text_wrap(&s->text, sentence, LABEL, WIDTH);
}

static void add_title(struct screen *s, const struct mqb_result *r)
{
    char bits[64], algo[160];
    if (r->weight_bits == r->activation_bits)
        snprintf(bits, sizeof bits, "%d bit", r->weight_bits);
    else
        snprintf(bits, sizeof bits, "weights %d bit, activations %d bit", r->weight_bits, r->activation_bits);
    const char *w = or_dash(r->algo_weights != NULL ? r->algo_weights : r->algo);
    const char *a = or_dash(r->algo_activations != NULL ? r->algo_activations : r->algo);
    if (strcmp(w, a) == 0)
        snprintf(algo, sizeof algo, "%s", w);
    else
        snprintf(algo, sizeof algo, "%s for weights, %s for activations", w, a);
    mqb_text_add(&s->text, "\n  %s%s: %s, %s%s", s->bold, or_dash(r->backend), algo, bits, s->plain);
    if (r->io_bits > 0 && (r->io_bits != r->weight_bits || r->io_bits != r->activation_bits))
        mqb_text_add(&s->text, ", first and last layer %d bit", r->io_bits);
    mqb_text_add(&s->text, "\n\n");
}

static void add_setup(struct screen *s, const struct mqb_result *r)
{
    char train[MQB_SHORT], test[MQB_SHORT];
    mqb_text_count((int64_t)r->n_train, train);
    mqb_text_count((int64_t)r->n_test, test);
    label(s, "model");
    mqb_text_add(&s->text, "%s", or_dash(r->model_name));
    if (r->model_sha256 != NULL && r->model_sha256[0] != '\0')
        mqb_text_add(&s->text, "  %s%.12s%s", s->dim, r->model_sha256, s->plain);
    mqb_text_add(&s->text, "\n");
    char *data = mqb_format("%s: %s training images, %s test images, normalized %s%s", or_dash(r->dataset_name), train, test,
                            or_dash(r->normalize), r->normalize_assumed ? " (assumed)" : "");
    line(s, "data", data != NULL ? data : "-");
    mqb_deallocate(data);
    label(s, "run");
    mqb_text_add(&s->text, "seed %llu, BN folding %d, %d thread%s, %s (%s)\n", (unsigned long long)r->seed, r->bn_fold, r->threads,
                 r->threads == 1 ? "" : "s", or_dash(r->compute), or_dash(r->isa));
}

static void add_accuracy(struct screen *s, const struct mqb_result *r, bool has, const char *name, const struct mqb_accuracy *a)
{
    if (!has || a->n <= 0)
        return;
    double low, high, n = (double)a->n, top1 = 100.0 * (double)a->top1 / n;
    mqb_wilson(a->top1, a->n, &low, &high);
    mqb_text_add(&s->text, "  %-20s %s%8.2f %%%s   %6.2f .. %6.2f  %8.2f %%", name, s->bold, top1, s->plain, low, high,
                 100.0 * (double)a->top5 / n);
    if (a != &r->fp32 && r->has_fp32 && r->fp32.n > 0)
        mqb_text_add(&s->text, "   %+8.2f", top1 - 100.0 * (double)r->fp32.top1 / (double)r->fp32.n);
    mqb_text_add(&s->text, "\n");
}

static void add_accuracies(struct screen *s, const struct mqb_result *r)
{
    bool any = r->has_fp32 || r->has_calibrated || r->has_fake || r->has_integer;
    if (!any)
        return;
    mqb_text_add(&s->text, "\n  %s%-20s %10s   %16s  %10s   %8s%s\n", s->dim, "", "top-1", "95 % interval", "top-5", "vs FP32", s->plain);
    /* Without training the two kinds of fake are one. */
    bool trained = r->has_calibrated && r->has_fake && r->training.steps > 0;
    add_accuracy(s, r, r->has_fp32, "FP32", &r->fp32);
    add_accuracy(s, r, r->has_calibrated && (trained || !r->has_fake), "fake, calibrated", &r->calibrated);
    add_accuracy(s, r, r->has_fake, trained ? "fake, trained" : "fake, calibrated", &r->fake);
    add_accuracy(s, r, r->has_integer, "integer", &r->integer);
    mqb_text_add(&s->text, "\n");
}

static double top1_percent(const struct mqb_accuracy *a)
{
    return a->n > 0 ? 100.0 * (double)a->top1 / (double)a->n : 0.0;
}

/* The interval in which a closed library's accuracy is to be expected, and what gives its ends. */
static void add_bracket(struct screen *s, const struct mqb_result *r)
{
    double low = 100.0, high = 0.0;
    for (int i = 0; i < r->num_bracket; i++) {
        double top1 = top1_percent(&r->bracket[i].integer);
        low = top1 < low ? top1 : low;
        high = top1 > high ? top1 : high;
    }
    if (r->num_bracket == 0)
        return;
    label(s, "bracket");
    mqb_text_add(&s->text, "integer top-1 %.2f .. %.2f %%:", low, high);
    for (int i = 0; i < r->num_bracket; i++)
        mqb_text_add(&s->text, "%s %s %.2f %%", i ? "," : "", r->bracket[i].name, top1_percent(&r->bracket[i].integer));
    mqb_text_add(&s->text, "\n");
}

static void add_deployable(struct screen *s, const struct mqb_result *r)
{
    const char *reason = r->deploy_reason != NULL ? r->deploy_reason : "";
    bool judged = r->deployable || reason[0] != '\0' || r->ended == NULL || r->ended[0] == '\0';
    char *sentence;
    if (!judged)
        sentence = mqb_strdup("not judged: the run ended before");
    else if (!r->deployable)
        sentence = mqb_format("no: %s", reason[0] != '\0' ? reason : "no reason was given");
    else
        sentence = mqb_format("yes%s%s%s%s%s", r->profile != NULL && r->profile[0] != '\0' ? ", as " : "",
                              r->profile != NULL ? r->profile : "", reason[0] != '\0' ? ": " : "", reason,
                              r->bracketed ? " (a model of a closed library: a code may differ by a step there)" : "");
    label(s, "deployable");
    mqb_text_add(&s->text, "%s", !judged ? "" : r->deployable ? s->good : s->bad);
    mqb_text_wrap(&s->text, sentence != NULL ? sentence : "-", LABEL, WIDTH);
    mqb_text_add(&s->text, "%s", s->plain);
    mqb_deallocate(sentence);
    add_bracket(s, r);
    if (r->has_fold) {
        label(s, "folding");
        mqb_text_add(&s->text, "logits of the folded and of the trained graph differ by %.1e of the largest (bound %.0e)\n",
                     r->fold_difference, MQB_FOLD_BOUND);
    }
    if (r->labels_compared > 0) {
        char agree[MQB_SHORT], images[MQB_SHORT];
        mqb_text_count(r->labels_agree, agree);
        mqb_text_count(r->labels_compared, images);
        label(s, "agreement");
        mqb_text_add(&s->text, "integer and fake give the same label for %s of %s images (%.2f %%)\n", agree, images,
                     100.0 * (double)r->labels_agree / (double)r->labels_compared);
    }
}

static double share(const struct mqb_layer_report *layer)
{
    return layer->elements > 0 ? (double)layer->differ / (double)layer->elements : 0.0;
}

/* The layers that differ most, worst first; of equals the earlier one. Returns how many, at most NUM_WORST. */
static int find_worst(const struct mqb_result *r, int worst[NUM_WORST], int *num_differ)
{
    int found = 0;
    *num_differ = 0;
    for (int i = 0; i < r->num_layers; i++) {
        const struct mqb_layer_report *layer = &r->layers[i];
        if (layer->differ == 0)
            continue;
        ++*num_differ;
        int at = found;
        while (at > 0 && (share(&r->layers[worst[at - 1]]) < share(layer) ||
                          (share(&r->layers[worst[at - 1]]) == share(layer) && r->layers[worst[at - 1]].max_steps < layer->max_steps)))
            at--;
        if (at == NUM_WORST)
            continue;
        if (found < NUM_WORST)
            found++;
        memmove(&worst[at + 1], &worst[at], (size_t)(found - 1 - at) * sizeof *worst);
        worst[at] = i;
    }
    return found;
}

/* The end of a name tells layers apart; its beginning is what they share. */
static void add_layer(struct screen *s, const struct mqb_layer_report *layer, double largest)
{
    char bar[BAR + 1];
    int length = largest > 0.0 ? (int)ceil(BAR * share(layer) / largest) : 0;
    memset(bar, '#', (size_t)length);
    bar[length] = '\0';
    const char *name = or_dash(layer->name);
    size_t size = strlen(name);
    bool cut = size > NAME_WIDTH;
    mqb_text_add(&s->text, "  %s%-*s %-12.12s %3d bit  %9.4f %%  %6lld step%s %s\n", cut ? ".." : "", cut ? NAME_WIDTH - 2 : NAME_WIDTH,
                 cut ? name + size - (NAME_WIDTH - 2) : name, or_dash(layer->op), layer->bits, 100.0 * share(layer),
                 (long long)layer->max_steps, layer->max_steps == 1 ? " " : "s", bar);
}

static void add_layers(struct screen *s, const struct mqb_result *r)
{
    int worst[NUM_WORST], num_differ;
    if (r->num_layers == 0)
        return;
    int shown = find_worst(r, worst, &num_differ);
    label(s, "layers");
    if (num_differ == 0) {
        mqb_text_add(&s->text, "fake and integer codes are equal in all %d (%lld images)\n", r->num_layers,
                     (long long)r->compare_images);
        return;
    }
    mqb_text_add(&s->text, "fake and integer codes differ in %d of %d, at most by %lld step%s (%lld images)%s\n\n", num_differ,
                 r->num_layers, (long long)r->max_steps, r->max_steps == 1 ? "" : "s", (long long)r->compare_images,
                 num_differ > shown ? "; the worst:" : "");
    for (int i = 0; i < shown; i++)
        add_layer(s, &r->layers[worst[i]], share(&r->layers[worst[0]]));
    mqb_text_add(&s->text, "\n");
    if (r->first_difference != NULL && r->first_difference[0] != '\0')
        line(s, "first", r->first_difference);
}

/* The worst layer when each is fed with the codes of fake quantization. */
static void add_isolated(struct screen *s, const struct mqb_result *r)
{
    const struct mqb_layer_report *worst = NULL;
    int num_differ = 0;
    for (int i = 0; i < r->num_layers; i++) {
        const struct mqb_layer_report *layer = &r->layers[i];
        num_differ += layer->isolated_differ > 0;
        if (worst == NULL || layer->isolated_max_steps > worst->isolated_max_steps ||
            (layer->isolated_max_steps == worst->isolated_max_steps &&
             (double)layer->isolated_differ / (double)layer->elements > (double)worst->isolated_differ / (double)worst->elements))
            worst = layer;
    }
    if (num_differ == 0 || worst->elements == 0)
        return;
    label(s, "alone");
    mqb_text_add(&s->text, "fed with fake codes %d differ, at most by %lld step%s, worst %s: %.4f %%\n", num_differ,
                 (long long)worst->isolated_max_steps, worst->isolated_max_steps == 1 ? "" : "s", or_dash(worst->name),
                 100.0 * (double)worst->isolated_differ / (double)worst->elements);
}

static const char *factor_words(const char *factor)
{
    static const char *const words[][2] = {
        {"none", "as deployed"},        {"bias", "bias rounding"}, {"requantize", "requantization"}, {"fold", "multiplier fold"},
        {"add", "add rule"},            {"pool", "pool rule"},     {"input", "input rounding"},      {"saturation", "saturation"},
        {"half", "half intermediates"}, {"all", "everything"},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(words[i][0], factor) == 0)
            return words[i][1];
    return factor;
}

/* What still differs with one factor exchanged, and in brackets what the factor accounts for. */
static void add_waterfall(struct screen *s, const struct mqb_result *r)
{
    const struct mqb_waterfall_row *deployed = r->waterfall;
    if (r->num_waterfall == 0)
        return;
    label(s, "waterfall");
    mqb_text_add(&s->text, "what differs from fake with one rule as in fake: codes of %lld, labels of %lld images\n\n",
                 (long long)deployed->images, (long long)deployed->integer.n);
    mqb_text_add(&s->text, "  %s%-20s %10s %11s  %10s %11s  %6s %7s  %8s%s\n", s->dim, "as in fake", "codes", "less", "alone", "less",
                 "labels", "less", "top-1", s->plain);
    for (int i = 0; i < r->num_waterfall; i++) {
        const struct mqb_waterfall_row *row = &r->waterfall[i];
        double percent = 100.0 / (double)(row->elements > 0 ? row->elements : 1);
        mqb_text_add(&s->text, "  %-20s %8.4f %%", i == 0 ? "nothing: as deployed" : factor_words(row->factor),
                     percent * (double)row->differ);
        if (i == 0)
            mqb_text_add(&s->text, " %11s  %8.4f %% %11s  %6lld %7s", "", percent * (double)row->isolated, "",
                         (long long)row->labels_differ, "");
        else
            mqb_text_add(&s->text, " %+9.4f %%  %8.4f %% %+9.4f %%  %6lld %+7lld", percent * (double)(row->differ - deployed->differ),
                         percent * (double)row->isolated, percent * (double)(row->isolated - deployed->isolated),
                         (long long)row->labels_differ, (long long)(row->labels_differ - deployed->labels_differ));
        mqb_text_add(&s->text, "  %6.2f %%\n", top1_percent(&row->integer));
    }
    mqb_text_add(&s->text, "\n");
}

static void add_stage(struct mqb_text *stages, const char *name, double seconds)
{
    char time[MQB_SHORT];
    if (!(seconds > 0.0))
        return;
    mqb_text_seconds(seconds, time);
    mqb_text_add(stages, "%s%s %s", stages->size > 0 ? ", " : "", name, time);
}

static void add_work(struct screen *s, const struct mqb_result *r)
{
    char macs_text[MQB_SHORT], bits_text[MQB_SHORT];
    int64_t macs, bit_operations;
    mqb_costs_total(r, &macs, &bit_operations);
    if (macs == 0)
        return;
    mqb_text_amount((double)macs, macs_text);
    mqb_text_amount((double)bit_operations, bits_text);
    label(s, "work");
    mqb_text_add(&s->text, "%s multiply-accumulates an image, %s bit operations, %.1f times fewer than FP32\n", macs_text, bits_text,
                 (double)macs * 32.0 * 32.0 / (double)bit_operations);
}

static void add_costs(struct screen *s, const struct mqb_result *r)
{
    struct mqb_text stages = {0};
    char total[MQB_SHORT], size[MQB_SHORT], packed[MQB_SHORT];
    if (r->training.steps > 0) {
        label(s, "training");
        mqb_text_add(&s->text, "%lld steps", (long long)r->training.steps);
        if (isfinite(r->training.first_loss))
            mqb_text_add(&s->text, ", loss %.4f", r->training.first_loss);
        if (isfinite(r->training.last_loss)) /* not known if a resumed run had nothing left to do */
            mqb_text_add(&s->text, " -> %.4f", r->training.last_loss);
        mqb_text_add(&s->text, "\n");
    }
    if (r->training.diverged && (r->ended == NULL || r->ended[0] == '\0')) { /* else the end says it */
        label(s, "");
        char *sentence = mqb_format("diverged at step %lld: %s%s%s", (long long)r->training.diverged_step, r->training.diverged_why,
                                    r->training.diverged_where[0] != '\0' ? "; it began at " : "", r->training.diverged_where);
        mqb_text_add(&s->text, "%s", s->bad);
        mqb_text_wrap(&s->text, sentence != NULL ? sentence : "diverged", LABEL, WIDTH);
        mqb_text_add(&s->text, "%s", s->plain);
        mqb_deallocate(sentence);
    }
    if (r->weight_bytes_packed > 0) {
        mqb_text_bytes((double)r->weight_bytes_fp32, size);
        mqb_text_bytes((double)r->weight_bytes_packed, packed);
        label(s, "weights");
        mqb_text_add(&s->text, "%s in FP32, %s packed, %.1f times smaller; %d weight, %d activation points\n", size, packed,
                     (double)r->weight_bytes_fp32 / (double)r->weight_bytes_packed, r->num_weight_points, r->num_activation_points);
    }
    add_work(s, r);
    add_stage(&stages, "FP32", r->seconds_fp32);
    add_stage(&stages, "calibrate", r->seconds_calibrate);
    add_stage(&stages, "train", r->seconds_train);
    add_stage(&stages, "fake", r->seconds_fake);
    add_stage(&stages, "integer", r->seconds_integer);
    mqb_text_seconds(r->seconds_total, total);
    mqb_text_bytes((double)r->peak_rss, size);
    label(s, "time");
    mqb_text_add(&s->text, "%s%s%s%s\n", total, stages.size > 0 ? " (" : "", stages.size > 0 && !stages.failed ? stages.data : "",
                 stages.size > 0 ? ")" : "");
    label(s, "memory");
    mqb_text_add(&s->text, "%s at the peak\n", size);
    mqb_text_deinit(&stages);
}

mqb_status mqb_result_screen(const struct mqb_result *result, bool color, char **text, struct mqb_error *error)
{
    struct screen s = {{0}, "", "", "", "", ""};
    if (color) {
        s.bold = "\033[1m";
        s.good = "\033[32m";
        s.bad = "\033[31m";
        s.dim = "\033[2m";
        s.plain = "\033[0m";
    }
    add_title(&s, result);
    add_setup(&s, result);
    add_accuracies(&s, result);
    add_deployable(&s, result);
    add_layers(&s, result);
    add_isolated(&s, result);
    add_waterfall(&s, result);
    add_costs(&s, result);
    for (int i = 0; i < result->num_files; i++) {
        label(&s, i == 0 ? "written" : "");
        mqb_text_add(&s.text, "%s\n", result->files[i]);
    }
    if (result->ended != NULL && result->ended[0] != '\0') {
        label(&s, "ended early");
        mqb_text_add(&s.text, "%s", s.bad);
        mqb_text_wrap(&s.text, result->ended, LABEL, WIDTH);
        mqb_text_add(&s.text, "%s", s.plain);
    }
    mqb_text_add(&s.text, "\n");
    if (s.text.failed) {
        mqb_text_deinit(&s.text);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to write the result as text");
    }
    *text = s.text.data;
    return MQB_OK;
}
