/* cmd_prove.c - what a backend exports, run by another engine and held against the integer program. */
#include "args.h"
#include "output.h"
#include "progress.h"
#include "report/prove.h"

#include <errno.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct prove_words {
    struct mqb_job_config job;
    int bits[2];
    struct cli_sets sets;
    const char *only, *json;
    bool all, verbose;
    int images;
};

struct counts {
    int hold, fail, missing;
};

/* ---- a folder for artefacts, gone at the end ---- */

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *position)
{
    (void)status;
    (void)type;
    (void)position;
    return remove(path);
}

static char *make_folder(void)
{
    const char *base = getenv("TMPDIR");
    char *folder = mqb_format("%s/mqbench-prove-XXXXXX", base != NULL && base[0] != '\0' ? base : "/tmp");
    if (folder == NULL || mkdtemp(folder) == NULL) {
        cli_error("no folder for artefacts in %s (%s); name one with --out", base != NULL ? base : "/tmp", strerror(errno));
        mqb_deallocate(folder);
        return NULL;
    }
    return folder;
}

/* ---- what came of it ---- */

static void print_tensors(const struct mqb_proof_result *result, bool all)
{
    for (int i = 0; i < result->num_tensors; i++) {
        const struct mqb_proof_tensor *t = &result->tensors[i];
        if (t->differ == 0 && !all)
            continue;
        printf("      %-40.40s %-18s %10lld of %10lld differ, at most by %lld", t->layer, t->op, (long long)t->differ,
               (long long)t->elements, (long long)t->max_steps);
        if (t->own > 0)
            printf("; %lld of them on equal inputs", (long long)t->own);
        printf("\n");
    }
}

static void print_result(const struct mqb_prove_case *one, const struct mqb_proof_result *result, bool verbose)
{
    const char *verdict = result->missing ? "missing" : mqb_proof_holds(result) ? "equal" : "DIFFERS";
    printf("  %-8s %-12s %-18s %-32s ", verdict, one->backend, result->name, one->settings);
    if (result->missing) {
        printf("%s\n", result->engine);
    } else if (result->failure[0] != '\0') {
        printf("%s\n", result->failure);
    } else {
        printf("%s: %lld of %lld codes in %d tensors, %lld of %lld logits, %lld of %lld labels differ\n", result->engine,
               (long long)result->differ, (long long)result->elements, result->num_tensors, (long long)result->logits_differ,
               (long long)result->logits, (long long)result->labels_differ, (long long)result->images);
        print_tensors(result, verbose);
    }
    fflush(stdout);
}

/* The record on standard output stands there alone. */
static bool to_stdout(const struct prove_words *words)
{
    return words->json != NULL && strcmp(words->json, "-") == 0;
}

static int prove_case(struct prove_words *words, struct mqb_prove_case *one, const char *dir, struct counts *counts)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct cli_progress progress;
    cli_progress_begin(&progress);
    words->job.progress = &progress.sink;
    mqb_status status = mqb_prove_case_run(one, &words->job, words->only, words->images, dir, &error);
    cli_progress_end(&progress);
    for (int i = 0; i < one->request.num_results; i++) {
        const struct mqb_proof_result *result = &one->request.results[i];
        counts->missing += result->missing;
        counts->hold += mqb_proof_holds(result);
        counts->fail += !result->missing && !mqb_proof_holds(result);
        if (!to_stdout(words))
            print_result(one, result, words->verbose);
    }
    if (status != MQB_OK)
        return cli_fail(status, &error);
    if (one->result != NULL && !one->result->deployable) {
        cli_error("%s cannot run this network, so there is nothing to prove: %s", one->backend, one->result->deploy_reason);
        return CLI_FAILED;
    }
    return CLI_OK;
}

static int write_json(const char *path, const struct mqb_prove_case *cases, int num_cases)
{
    struct mqb_error error = MQB_ERROR_INIT;
    char *text = NULL;
    mqb_status status = mqb_prove_json(cases, num_cases, &text, &error);
    if (status != MQB_OK)
        return cli_fail(status, &error);
    bool written = cli_write_record(path, text);
    mqb_deallocate(text);
    return written ? CLI_OK : CLI_FAILED;
}

static int prove(struct prove_words *words)
{
    struct mqb_error error = MQB_ERROR_INIT;
    struct mqb_prove_case *cases = NULL;
    struct counts counts = {0, 0, 0};
    int num_cases = 0, code = CLI_OK;
    char *folder = words->job.out == NULL ? make_folder() : NULL;
    const char *dir = words->job.out != NULL ? words->job.out : folder;
    if (dir == NULL)
        return CLI_FAILED;
    mqb_status status = words->json != NULL ? mqb_probe_file(words->json, &error) : MQB_OK;
    if (status == MQB_OK)
        status = mqb_prove_cases(words->job.manifest, words->job.backend, &cases, &num_cases, &error);
    if (status != MQB_OK)
        code = cli_fail(status, &error);
    for (int i = 0; i < num_cases; i++) {
        int one = prove_case(words, &cases[i], dir, &counts);
        code = one > code ? one : code;
    }
    if (status == MQB_OK && counts.hold + counts.fail + counts.missing == 0 && code == CLI_OK) {
        cli_error("there is no proof \"%s\"; without --only all are run and named", words->only != NULL ? words->only : "");
        code = CLI_WRONG;
    } else if (status == MQB_OK && !to_stdout(words)) {
        printf("  %d equal, %d differ, %d without their engine\n", counts.hold, counts.fail, counts.missing);
    }
    if (status == MQB_OK && words->json != NULL) {
        int one = write_json(words->json, cases, num_cases);
        code = one > code ? one : code;
    }
    mqb_prove_cases_destroy(cases, num_cases);
    if (folder != NULL)
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    mqb_deallocate(folder);
    return code == CLI_OK && counts.fail > 0 ? CLI_FAILED : code;
}

int cmd_prove(int argc, char **argv)
{
    struct prove_words words = {.bits = {8, 8}, .images = 32, .job = {.io_bits = 8, .seed = 1000, .algo = "lsq"}};
    struct mqb_job_config *job = &words.job;
    const struct cli_flag flags[] = {
        {"backend", "NAME", CLI_TEXT, &job->backend, 0, 0, "the proofs of one backend", NULL},
        {"all", NULL, CLI_SWITCH, &words.all, 0, 0, "the proofs of all backends", NULL},
        {"only", "NAME", CLI_TEXT, &words.only, 0, 0, "one proof, by its name", NULL},
        {"model", "FILE.onnx", CLI_TEXT, &job->model, 0, 0, "pretrained FP32 network (default: a ResNet-20 for synth)", NULL},
        {"dataset", "KIND[:PATH]", CLI_TEXT, &job->dataset, 0, 0, "images (default: synth; mqbench list datasets)", NULL},
        {"normalize", "WORD", CLI_TEXT, &job->normalize, 0, 0,
         "imagenet, tf, unit, raw or mean:R,G,B/std:R,G,B\n(default: what the model says, else imagenet)", NULL},
        {"images", "N", CLI_INT, &words.images, 1, 1000000, "test images to compare (default: 32)", NULL},
        {"algo", "NAME", CLI_TEXT, &job->algo, 0, 0, "quantization algorithm, calibrated only (default: lsq)", NULL},
        {"bits", "W[/A]", CLI_BITS, words.bits, 2, 8, "bits of weights and activations, 2 to 8 (default: 8/8)", NULL},
        {"set", "KEY=VALUE", CLI_SET, &words.sets, 0, 0, "as for mqbench run; wins over what a proof asks for", NULL},
        {"seed", "N", CLI_SEED, &job->seed, 0, INT64_MAX, "of everything random (default: 1000)", NULL},
        {"threads", "N", CLI_INT, &job->threads, 0, 1024, "0: one a processor (default); the result does not depend on it",
         NULL},
        {"compute", "NAME", CLI_TEXT, &job->compute, 0, 0, "provider of convolutions (default: the best one here)", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &job->manifest, 0, 0, "a further manifest of components", NULL},
        {"tensors", NULL, CLI_SWITCH, &words.verbose, 0, 0, "list the tensors that agree, too", NULL},
        {"json", "FILE", CLI_TEXT, &words.json, 0, 0, "write all proofs; - is standard output", NULL},
        {"out", "DIR", CLI_TEXT, &job->out, 0, 0, "keep the artefacts of the last proof", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench prove --all | --backend NAME [flags]",
        .about = "Runs what a backend exports in another inference engine, and compares every integer tensor that the engine "
                 "shows,\n"
                 "the logits and the labels with the integer program, bit for bit. An engine that is not installed is named.",
        .flags = flags,
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    int code = cli_parsed_exit(parsed);
    if (parsed == CLI_GO && (job->backend == NULL) == !words.all) {
        cli_error("name either one backend with --backend, or --all");
        code = CLI_WRONG;
    } else if (parsed == CLI_GO) {
        job->weight_bits = words.bits[0];
        job->activation_bits = words.bits[1];
        job->set_keys = (const char *const *)words.sets.keys;
        job->set_values = (const char *const *)words.sets.values;
        job->num_set = words.sets.num;
        code = prove(&words);
    }
    cli_sets_deinit(&words.sets);
    return code;
}
