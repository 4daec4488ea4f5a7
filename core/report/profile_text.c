/* profile_text.c - a profile as JSON, and as a screen of plain text. */
#include "report/profile.h"
#include "report/text.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_ROWS 20 /* of single operators on the screen; JSON has all */

static double rate(double amount, double seconds)
{
    return seconds > 0.0 ? amount / seconds * 1e-9 : 0.0;
}

static double share(const struct mqb_profile *profile, double seconds)
{
    return profile->mean > 0.0 ? seconds / profile->mean : 0.0;
}

/* ---- JSON ---- */

static json_t *operator_json(const struct mqb_profile *profile, const struct mqb_profile_operator *op)
{
    double bound = mqb_profile_bound(profile, op);
    json_t *json = json_pack("{s:s, s:s, s:s, s:f, s:f}", "name", op->name, "op", op->op, "pass", mqb_profile_passes[op->pass],
                             "ms", op->seconds * 1e3, "share", share(profile, op->seconds));
    if (json != NULL && op->operations > 0.0)
        json_object_set_new(json, "gflops", json_real(rate(op->operations, op->seconds)));
    if (json != NULL && op->bytes > 0.0)
        json_object_set_new(json, "gbs", json_real(rate(op->bytes, op->seconds)));
    if (json != NULL && bound > 0.0 && op->seconds > 0.0)
        json_object_set_new(json, "share_of_limit", json_real(bound / op->seconds));
    return json;
}

mqb_status mqb_profile_json(const struct mqb_profile *profile, char **text, struct mqb_error *error)
{
    json_t *operators = json_array(), *passes = json_object();
    double bound = 0.0;
    for (int i = 0; i < profile->num_operators; i++) {
        bound += mqb_profile_bound(profile, &profile->operators[i]);
        json_array_append_new(operators, operator_json(profile, &profile->operators[i]));
    }
    for (int i = 0; i < MQB_PROFILE_NUM_PASSES; i++)
        json_object_set_new(passes, mqb_profile_passes[i], json_real(profile->passes[i] * 1e3));
    json_object_set_new(passes, "waiting", json_real(profile->waiting * 1e3));
    json_t *root = json_pack(
        "{s:s, s:s, s:s, s:b, s:s, s:s, s:i, s:i, s:i, s:{s:f, s:f, s:f}, s:f, s:f, s:I, s:I, s:{s:f, s:f, s:f}, s:f, s:s, s:o, s:o}",
        "schema", MQB_PROFILE_SCHEMA, "model", profile->model, "what", profile->what, "inference", profile->infer, "compute",
        profile->compute, "isa", profile->isa, "threads", profile->threads, "batch", profile->batch, "steps", profile->steps,
        "step_ms", "min", profile->min * 1e3, "median", profile->median * 1e3, "mean", profile->mean * 1e3, "cpu_ms", profile->cpu * 1e3, "images_per_second",
        profile->median > 0.0 ? profile->batch / profile->median : 0.0, "peak_rss_bytes", (json_int_t)profile->peak_rss,
        "plan_bytes", (json_int_t)profile->plan_memory, "limits", "gflops", profile->limits.gflops, "integer_gops",
        profile->limits.integer_gops, "memory_gbs", profile->limits.gbs, "share_of_limit", share(profile, bound), "logits_sha256", profile->logits, "passes_ms",
        passes, "operators", operators);
    char *dumped = root != NULL ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    *text = dumped != NULL ? mqb_format("%s\n", dumped) : NULL;
    free(dumped);
    json_decref(root);
    return *text != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory to write the profile as JSON");
}

/* ---- screen ---- */

static bool is_integer(const struct mqb_profile *profile)
{
    return strcmp(profile->what, "integer") == 0;
}

static void put_row(struct mqb_text *text, const struct mqb_profile *profile, const struct mqb_profile_operator *op,
                    const char *first, const char *second, double bound)
{
    char gflops[16] = "", gbs[16] = "", limit[16] = "";
    if (op->operations > 0.0)
        snprintf(gflops, sizeof gflops, "%.1f", rate(op->operations, op->seconds));
    if (op->bytes > 0.0)
        snprintf(gbs, sizeof gbs, "%.1f", rate(op->bytes, op->seconds));
    if (bound > 0.0 && op->seconds > 0.0)
        snprintf(limit, sizeof limit, "%.0f %%", 100.0 * bound / op->seconds);
    mqb_text_add(text, "%-9s %-26.26s %-26.26s %9.3f %6.1f %% %9s %7s %9s\n", mqb_profile_passes[op->pass], first, second,
                 op->seconds * 1e3, 100.0 * share(profile, op->seconds), gflops, gbs, limit);
}

static void put_head(struct mqb_text *text, const struct mqb_profile *profile, const char *first, const char *second)
{
    mqb_text_add(text, "\n%-9s %-26s %-26s %9s %8s %9s %7s %9s\n", "pass", first, second, "ms", "share",
                 is_integer(profile) ? "GOP/s" : "GFLOP/s", "GB/s", "of limit");
}

struct group {
    struct mqb_profile_operator sum;
    double bound;
    int count;
};

static int by_time(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return (x->sum.seconds < y->sum.seconds) - (x->sum.seconds > y->sum.seconds);
}

/* Operators of one kind and pass together. */
static mqb_status put_groups(struct mqb_text *text, const struct mqb_profile *profile, struct mqb_error *error)
{
    struct group *groups = mqb_allocate_array((size_t)profile->num_operators + 1, sizeof *groups);
    int num = 0;
    if (groups == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to show a profile");
    for (int i = 0; i < profile->num_operators; i++) {
        const struct mqb_profile_operator *op = &profile->operators[i];
        int g = 0;
        while (g < num && (groups[g].sum.pass != op->pass || strcmp(groups[g].sum.op, op->op) != 0))
            g++;
        if (g == num)
            groups[num++].sum = (struct mqb_profile_operator){.op = op->op, .pass = op->pass};
        groups[g].sum.seconds += op->seconds;
        groups[g].sum.operations += op->operations;
        groups[g].sum.bytes += op->bytes;
        groups[g].bound += mqb_profile_bound(profile, op);
        groups[g].count++;
    }
    qsort(groups, (size_t)num, sizeof *groups, by_time);
    put_head(text, profile, "operators", "how many");
    for (int g = 0; g < num; g++) {
        char count[16];
        snprintf(count, sizeof count, "%d", groups[g].count);
        put_row(text, profile, &groups[g].sum, groups[g].sum.op, count, groups[g].bound);
    }
    mqb_deallocate(groups);
    return MQB_OK;
}

mqb_status mqb_profile_screen(const struct mqb_profile *profile, char **result, struct mqb_error *error)
{
    struct mqb_text text = {0};
    char peak[MQB_SHORT], plan[MQB_SHORT];
    mqb_text_bytes((double)profile->peak_rss, peak);
    mqb_text_bytes((double)profile->plan_memory, plan);
    mqb_text_add(&text, "%s, %s%s, batch %d, %d threads, %s (%s)\n", profile->model, profile->what,
                 profile->infer && !is_integer(profile) ? " inference" : "", profile->batch, profile->threads, profile->compute,
                 profile->isa);
    mqb_text_add(&text, "step     %.2f ms best, %.2f ms median of %d; %.1f images/s; %.2f ms of the processors\n",
                 profile->min * 1e3, profile->median * 1e3, profile->steps,
                 profile->median > 0.0 ? profile->batch / profile->median : 0.0, profile->cpu * 1e3);
    mqb_text_add(&text, "memory   %s at most%s%s%s\n", peak, profile->plan_memory > 0 ? ", " : "",
                 profile->plan_memory > 0 ? plan : "", profile->plan_memory > 0 ? " of it the plan's" : "");
    mqb_text_add(&text, "limits   %.0f %s, %.1f GB/s of memory, measured now on %d threads\n",
                 is_integer(profile) ? profile->limits.integer_gops : profile->limits.gflops,
                 is_integer(profile) ? "GOP/s int8" : "GFLOP/s FP32", profile->limits.gbs, profile->limits.threads);
    mqb_text_add(&text, "logits   %.16s of the last step\n", profile->logits);
    mqb_text_add(&text, "passes   ");
    for (int i = 0; i < MQB_PROFILE_NUM_PASSES; i++)
        if (profile->passes[i] > 0.0)
            mqb_text_add(&text, "%s %.2f ms, ", mqb_profile_passes[i], profile->passes[i] * 1e3);
    mqb_text_add(&text, "waiting %.2f ms\n", profile->waiting * 1e3);
    mqb_status status = put_groups(&text, profile, error);
    int rows = profile->num_operators < LONGEST_ROWS ? profile->num_operators : LONGEST_ROWS;
    put_head(&text, profile, "the longest", "layer");
    for (int i = 0; i < rows; i++)
        put_row(&text, profile, &profile->operators[i], profile->operators[i].op, profile->operators[i].name,
                mqb_profile_bound(profile, &profile->operators[i]));
    if (status == MQB_OK && text.failed)
        status = mqb_fail(error, MQB_ERR_MEMORY, "no memory to show a profile");
    if (status == MQB_OK) {
        *result = text.data;
        text.data = NULL;
    }
    mqb_text_deinit(&text);
    return status;
}
