/* profile.c - runs steps with times kept and gathers them. */
#include "report/profile.h"
#include "report/costs.h"
#include "report/text.h"
#include "graph/op.h"

#include <stdlib.h>
#include <string.h>

#define WARM_UP 2
#define CALIBRATION_IMAGES 8 /* the scales need not be good ones, only not nonsense */
#define STREAM_IMAGES 0x70726f66696c65ull
#define LEARNING_RATE 1e-3

const char *const mqb_profile_passes[MQB_PROFILE_NUM_PASSES] = {"forward", "backward", "fixed", "optimizer"};

/* What is measured. */
struct subject {
    const struct mqb_profile_config *config;
    const struct mqb_session *session;
    const char *model;
    const struct mqb_recipe *recipe;
    const struct mqb_dataset *dataset; /* NULL: random images */
    const struct mqb_normalize *normalize;
    struct mqb_graph *graph;
    struct mqb_points *points; /* NULL: FP32 */
    struct mqb_job_view *view;
    int batch;
    float *x;
    int32_t *labels;
    double *times, *cpu; /* of steps: by the clock, and of the processors */
    struct mqb_profile *profile;
};

static mqb_status no_memory(struct mqb_error *error)
{
    return mqb_fail(error, MQB_ERR_MEMORY, "no memory for a profile");
}

/* ---- images ---- */

static void random_images(struct subject *s, size_t image, int64_t classes)
{
    size_t count = (size_t)s->batch * image;
    for (size_t i = 0; i < count; i += 4) {
        uint32_t bits[4];
        mqb_philox(s->config->job.seed, STREAM_IMAGES, i / 4, bits);
        for (size_t k = 0; k < 4 && i + k < count; k++)
            s->x[i + k] = (float)(bits[k] >> 8) * 0x1p-22f - 2.0f; /* [-2, 2) */
    }
    for (int i = 0; i < s->batch; i++)
        s->labels[i] = (int32_t)(i % classes);
}

static mqb_status load_images(struct subject *s, size_t image, struct mqb_error *error)
{
    struct mqb_loader *loader = NULL;
    struct mqb_batch batch = {.num_images = 0};
    mqb_status status = mqb_session_loader(s->graph, s->dataset, MQB_SPLIT_TRAIN, s->batch, s->normalize, &loader, error);
    if (status == MQB_OK)
        status = mqb_loader_start(loader, 0, 0, error);
    if (status == MQB_OK)
        status = mqb_loader_next(loader, &batch, error);
    if (status == MQB_OK && batch.num_images != s->batch)
        status =
            mqb_fail(error, MQB_ERR_ARGUMENT, "%s has %d training images, fewer than a batch of %d; give a smaller --batch",
                     s->dataset->name, batch.num_images, s->batch);
    if (status == MQB_OK) {
        memcpy(s->x, batch.x, (size_t)s->batch * image * sizeof *s->x);
        memcpy(s->labels, batch.labels, (size_t)s->batch * sizeof *s->labels);
    }
    mqb_loader_destroy(loader);
    return status;
}

static mqb_status make_images(struct subject *s, struct mqb_error *error)
{
    size_t image = (size_t)mqb_value_size(&s->graph->values[s->graph->input]);
    s->x = mqb_allocate_array((size_t)s->batch * image, sizeof *s->x);
    s->labels = mqb_allocate_array((size_t)s->batch, sizeof *s->labels);
    if (s->x == NULL || s->labels == NULL)
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory for %d images; give a smaller --batch", s->batch);
    if (s->dataset != NULL)
        return load_images(s, image, error);
    random_images(s, image, mqb_value_size(&s->graph->values[s->graph->output]));
    return MQB_OK;
}

/* ---- operators ---- */

static mqb_status add_operator(struct mqb_profile *profile, const char *name, const char *op, enum mqb_profile_pass pass,
                               double seconds, double operations, double bytes, struct mqb_error *error)
{
    struct mqb_profile_operator *o = &profile->operators[profile->num_operators];
    *o = (struct mqb_profile_operator){mqb_strdup(name), mqb_strdup(op), pass, seconds, operations, bytes};
    profile->num_operators++;
    profile->passes[pass] += seconds;
    return o->name != NULL && o->op != NULL ? MQB_OK : no_memory(error);
}

static mqb_status add_row(struct subject *s, const struct mqb_exec_time *time, double scale, struct mqb_error *error)
{
    const struct mqb_graph *graph = s->graph;
    enum mqb_profile_pass pass = time->pass == MQB_EXEC_FORWARD    ? MQB_PROFILE_FORWARD
                                 : time->pass == MQB_EXEC_BACKWARD ? MQB_PROFILE_BACKWARD
                                                                   : MQB_PROFILE_FIXED;
    struct mqb_text op = {0};
    double operations = 0.0;
    for (int i = 0; i < time->num_nodes; i++) {
        const struct mqb_node *node = &graph->nodes[time->nodes[i]];
        mqb_text_add(&op, "%s%s", i > 0 ? "+" : "", node->op->name);
        operations += 2.0 * (double)mqb_costs_macs(graph, node) * s->batch;
    }
    if (pass == MQB_PROFILE_BACKWARD && time->input_gradient)
        operations *= 2.0;
    if (pass == MQB_PROFILE_FIXED)
        operations = 0.0;
    const char *name = time->num_nodes > 0 ? graph->nodes[time->nodes[0]].name : "";
    mqb_status status = op.failed ? no_memory(error)
                                  : add_operator(s->profile, name, op.data != NULL ? op.data : "GradientSums", pass,
                                                 time->seconds * scale, operations, time->floats * sizeof(float), error);
    mqb_text_deinit(&op);
    return status;
}

static mqb_status gather_exec(struct subject *s, const struct mqb_exec *exec, double loss, double update,
                              struct mqb_error *error)
{
    int rows = mqb_exec_num_times(exec);
    double scale = 1.0 / ((double)s->profile->threads * s->config->steps);
    mqb_status status = MQB_OK;
    s->profile->operators = mqb_allocate_array((size_t)rows + 2, sizeof *s->profile->operators);
    if (s->profile->operators == NULL)
        return no_memory(error);
    for (int i = 0; i < rows && status == MQB_OK; i++) {
        struct mqb_exec_time time;
        mqb_exec_time(exec, i, &time);
        if (time.seconds > 0.0)
            status = add_row(s, &time, scale, error);
    }
    if (status == MQB_OK && loss > 0.0)
        status = add_operator(s->profile, "", "Loss", MQB_PROFILE_FORWARD, loss / s->config->steps, 0.0, 0.0, error);
    if (status == MQB_OK && update > 0.0)
        status = add_operator(s->profile, "", "SGD", MQB_PROFILE_OPTIMIZER, update / s->config->steps, 0.0, 0.0, error);
    return status;
}

static int later(const void *a, const void *b)
{
    const struct mqb_profile_operator *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static double median(double *times, int num)
{
    qsort(times, (size_t)num, sizeof *times, ascending);
    return (times[(num - 1) / 2] + times[num / 2]) / 2.0;
}

static void sum_up(struct subject *s)
{
    struct mqb_profile *profile = s->profile;
    int steps = s->config->steps;
    for (int i = 0; i < steps; i++)
        profile->mean += s->times[i] / steps;
    profile->median = median(s->times, steps);
    profile->min = s->times[0];
    profile->cpu = median(s->cpu, steps);
    profile->waiting = profile->mean;
    for (int i = 0; i < MQB_PROFILE_NUM_PASSES; i++)
        profile->waiting -= profile->passes[i];
    qsort(profile->operators, (size_t)profile->num_operators, sizeof *profile->operators, later);
}

static void hash_logits(struct subject *s, const float *logits)
{
    struct mqb_sha256 hash;
    mqb_sha256_init(&hash);
    mqb_sha256_update(&hash, logits,
                      (size_t)s->batch * (size_t)mqb_value_size(&s->graph->values[s->graph->output]) * sizeof *logits);
    mqb_sha256_hex(&hash, s->profile->logits);
}

/* ---- steps ---- */

static mqb_status measure_exec(struct subject *s, struct mqb_error *error)
{
    const struct mqb_profile_config *config = s->config;
    struct mqb_exec_config plan = {
        .graph = s->graph,
        .host = mqb_host_table(),
        .compute = s->session->compute,
        .pool = s->session->pool,
        .batch = s->batch,
        .training = !config->infer,
        .gradients = !config->infer,
        .frozen = config->infer,
        .times = true,
    };
    struct mqb_exec *exec = NULL;
    struct mqb_optimizer *optimizer = NULL;
    double loss = 0.0, update = 0.0;
    mqb_status status = mqb_exec_create(&plan, &exec, error);
    if (status == MQB_OK && !config->infer)
        status = mqb_optimizer_create(s->graph, exec, s->points, s->session->pool, s->recipe, &optimizer, error);
    for (int step = -WARM_UP; step < config->steps && status == MQB_OK; step++) {
        double value;
        if (step == 0) {
            mqb_exec_clear_times(exec);
            loss = update = 0.0;
        }
        double start = mqb_seconds(), cpu = mqb_cpu_seconds();
        status = mqb_exec_forward(exec, s->x, s->batch, error);
        double forward = mqb_seconds();
        if (status == MQB_OK && !config->infer) {
            if ((status = mqb_exec_loss(exec, s->labels, s->recipe->label_smoothing, &value, NULL, error)) != MQB_OK)
                break;
            loss += mqb_seconds() - forward;
            if ((status = mqb_exec_backward(exec, error)) != MQB_OK)
                break;
            double backward = mqb_seconds();
            mqb_optimizer_step(optimizer, LEARNING_RATE);
            update += mqb_seconds() - backward;
        }
        if (step >= 0) {
            s->times[step] = mqb_seconds() - start;
            s->cpu[step] = mqb_cpu_seconds() - cpu;
        }
    }
    if (status == MQB_OK)
        hash_logits(s, mqb_exec_value(exec, s->graph->output));
    if (status == MQB_OK)
        status = gather_exec(s, exec, loss, update, error);
    if (exec != NULL)
        s->profile->plan_memory = mqb_exec_memory(exec);
    mqb_optimizer_destroy(optimizer);
    mqb_exec_destroy(exec);
    return status;
}

static mqb_status measure_integer(struct subject *s, struct mqb_error *error)
{
    const struct mqb_program *program = s->view->program;
    int num_ops = mqb_program_num_ops(program), threads = s->profile->threads, steps = s->config->steps;
    double *times = mqb_allocate_array((size_t)threads * (size_t)num_ops + 1, sizeof *times);
    float *logits =
        mqb_allocate_array((size_t)s->batch * (size_t)mqb_value_size(&s->graph->values[s->graph->output]), sizeof *logits);
    s->profile->operators = mqb_allocate_array((size_t)num_ops + 1, sizeof *s->profile->operators);
    mqb_status status = times != NULL && logits != NULL && s->profile->operators != NULL ? MQB_OK : no_memory(error);
    for (int step = -WARM_UP; step < steps && status == MQB_OK; step++) {
        if (step == 0)
            memset(times, 0, (size_t)threads * (size_t)num_ops * sizeof *times);
        double start = mqb_seconds(), cpu = mqb_cpu_seconds();
        status = mqb_program_run_timed(program, s->session->pool, s->x, s->batch, logits, times, error);
        if (step >= 0) {
            s->times[step] = mqb_seconds() - start;
            s->cpu[step] = mqb_cpu_seconds() - cpu;
        }
    }
    if (status == MQB_OK)
        hash_logits(s, logits);
    for (int i = 0; i < num_ops && status == MQB_OK; i++) {
        struct mqb_program_op op;
        double seconds = 0.0;
        mqb_program_op(program, i, &op);
        for (int t = 0; t < threads; t++)
            seconds += times[(size_t)t * (size_t)num_ops + (size_t)i];
        status = add_operator(s->profile, op.name, op.kind, MQB_PROFILE_FORWARD, seconds / ((double)threads * steps),
                              op.operations * s->batch, op.bytes * s->batch, error);
    }
    mqb_deallocate(times);
    mqb_deallocate(logits);
    return status;
}

static mqb_status measure(struct subject *s, struct mqb_error *error)
{
    struct mqb_profile *profile = s->profile;
    const struct mqb_compute *compute = s->session->compute;
    const char *isa =
        MQB_HAS_FIELD(compute, struct mqb_compute, isa) && compute->isa != NULL ? compute->isa(mqb_host_table()) : "";
    bool integer = s->points != NULL && s->config->infer;
    s->batch = s->recipe->batch;
    profile->batch = s->batch;
    profile->steps = s->config->steps;
    profile->infer = s->config->infer;
    profile->threads = mqb_pool_num_threads(s->session->pool);
    profile->model = mqb_strdup(s->model);
    profile->what = mqb_strdup(s->points == NULL ? "fp32" : integer ? "integer" : "qat");
    profile->compute = mqb_strdup(s->session->compute_entry->id);
    profile->isa = mqb_strdup(isa);
    s->times = mqb_allocate_array((size_t)s->config->steps, 2 * sizeof *s->times);
    s->cpu = s->times + s->config->steps;
    if (profile->model == NULL || profile->what == NULL || profile->compute == NULL || profile->isa == NULL || s->times == NULL)
        return no_memory(error);
    mqb_status status = make_images(s, error);
    if (status == MQB_OK && s->points != NULL)
        status = mqb_calibrate_images(s->graph, s->points, compute, s->session->pool, s->x,
                                      s->batch < CALIBRATION_IMAGES ? s->batch : CALIBRATION_IMAGES, error);
    if (status == MQB_OK && integer)
        status = mqb_job_view_lower(s->view, error);
    if (status == MQB_OK)
        status = integer ? measure_integer(s, error) : measure_exec(s, error);
    if (status != MQB_OK)
        return status;
    sum_up(s);
    profile->peak_rss = mqb_peak_rss(); /* before the probe, which needs memory of its own */
    return mqb_limits_measure(s->session->pool, isa, &profile->limits, error);
}

/* ---- all of it ---- */

static mqb_status visit(void *context, struct mqb_job_view *view, struct mqb_error *error)
{
    struct subject *s = context;
    s->session = view->session;
    s->model = view->model;
    s->recipe = view->recipe;
    s->dataset = view->dataset;
    s->normalize = view->normalize;
    s->graph = view->graph;
    s->points = view->points;
    s->view = view;
    return measure(s, error);
}

static mqb_status profile_fp32(struct subject *s, struct mqb_error *error)
{
    const struct mqb_job_config *job = &s->config->job;
    struct mqb_session session = {0};
    struct mqb_dataset *dataset = NULL;
    struct mqb_normalize normalize;
    struct mqb_recipe recipe;
    char sha256[65];
    bool assumed;
    s->model = job->model != NULL ? job->model : MQB_DEFAULT_MODEL;
    const char *slash = strrchr(s->model, '/');
    s->model = slash != NULL ? slash + 1 : s->model;
    mqb_status status = mqb_session_open(job->manifest, job->compute, job->threads, &session, error);
    if (status == MQB_OK)
        status = mqb_session_model(&session, job->model, &s->graph, sha256, error);
    if (status == MQB_OK)
        status = mqb_session_recipe(&session, job->recipe, s->model, 32, job->set_keys, job->set_values, job->num_set, &recipe,
                                    error);
    if (status == MQB_OK && job->dataset != NULL)
        status = mqb_dataset_open(job->dataset, job->train_limit, job->test_limit, 0, &dataset, error);
    if (status == MQB_OK && dataset != NULL)
        status = mqb_session_normalize(job->normalize, s->graph, &normalize, &assumed, error);
    s->session = &session;
    s->recipe = &recipe;
    s->dataset = dataset;
    s->normalize = &normalize;
    if (status == MQB_OK)
        status = measure(s, error);
    mqb_dataset_close(dataset);
    mqb_graph_destroy(s->graph);
    mqb_session_close(&session);
    return status;
}

mqb_status mqb_profile_run(const struct mqb_profile_config *config, struct mqb_profile **result, struct mqb_error *error)
{
    struct subject s = {.config = config, .profile = mqb_allocate(sizeof *s.profile)};
    *result = NULL;
    if (s.profile == NULL)
        return no_memory(error);
    mqb_status status = config->steps < 1
                            ? mqb_fail(error, MQB_ERR_ARGUMENT, "a profile needs at least one step, not %d", config->steps)
                        : config->fp32 ? profile_fp32(&s, error)
                                       : mqb_job_visit(&config->job, visit, &s, error);
    mqb_deallocate(s.x);
    mqb_deallocate(s.labels);
    mqb_deallocate(s.times);
    if (status != MQB_OK) {
        mqb_profile_destroy(s.profile);
        return status;
    }
    *result = s.profile;
    return MQB_OK;
}

void mqb_profile_destroy(struct mqb_profile *profile)
{
    if (profile == NULL)
        return;
    for (int i = 0; i < profile->num_operators; i++) {
        mqb_deallocate(profile->operators[i].name);
        mqb_deallocate(profile->operators[i].op);
    }
    mqb_deallocate(profile->operators);
    mqb_deallocate(profile->model);
    mqb_deallocate(profile->what);
    mqb_deallocate(profile->compute);
    mqb_deallocate(profile->isa);
    mqb_deallocate(profile);
}

double mqb_profile_bound(const struct mqb_profile *profile, const struct mqb_profile_operator *op)
{
    bool integer = strcmp(profile->what, "integer") == 0;
    double compute = op->operations / ((integer ? profile->limits.integer_gops : profile->limits.gflops) * 1e9);
    double memory = op->bytes / (profile->limits.gbs * 1e9);
    return compute > memory ? compute : memory;
}
