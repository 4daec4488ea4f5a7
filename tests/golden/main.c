/*
 * main.c - golden DIR [--compat] [--verbose]: replays every case of the reference vectors in a folder (*.json, and what those
 * point to), prints a line a file, and at last how many cases passed, deviate by design, and failed. What a file is about is
 * said by its fields "family" and, in a case, "algo"; its name says nothing.
 */
#include "golden.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *family;
    golden_driver *drive;
} families[] = {
    {"fam1", golden_quantizer_case}, {"fam2", golden_observer_case}, {"fam3", golden_fold_case},
    {"fam4", golden_quantizer_case}, {"fam5", golden_integer_case},  {"fam6", golden_trace_case},
    {"fam7", golden_ort_case},
};

/* How often a name came up: rules, components. */
struct tally {
    struct {
        const char *name;
        int count;
    } entries[64];
    int num_entries;
};

static void tally_add(struct tally *tally, const char *name)
{
    int i = 0;
    while (i < tally->num_entries && strcmp(tally->entries[i].name, name) != 0)
        i++;
    if (i == (int)(sizeof(tally->entries) / sizeof(tally->entries[0])))
        return;
    tally->entries[i].name = name;
    tally->entries[i].count++;
    tally->num_entries = i < tally->num_entries ? tally->num_entries : i + 1;
}

static void tally_print(const struct tally *tally)
{
    for (int i = 0; i < tally->num_entries; i++)
        printf("%s%s %d", i ? ", " : "", tally->entries[i].name, tally->entries[i].count);
    printf("\n");
}

struct counts {
    int cases, passed, by_design, failed, not_shipped;
};

struct session {
    struct golden_run run;
    bool compat, verbose;
    struct counts total;
    struct tally rules, components;
};

struct file {
    const char *folder;
    const json_t *cases;
    golden_driver *drive;
};

/* "" if the case passes. */
static void replay(const struct session *session, const struct file *file, const json_t *item, bool compat, char *problem,
                   size_t size, const char **not_shipped)
{
    struct golden_case c = {.run = &session->run,
                            .folder = file->folder,
                            .item = item,
                            .cases = file->cases,
                            .compat = compat,
                            .error = MQB_ERROR_INIT};
    file->drive(&c);
    snprintf(problem, size, "%s", c.problem);
    *not_shipped = c.not_shipped;
    golden_case_release(&c);
}

static void run_case(struct session *session, const struct file *file, const json_t *item, struct counts *counts)
{
    char problem[512], again[512] = "";
    const char *not_shipped, *rule = NULL, *name = golden_text(item, "name");
    replay(session, file, item, session->compat, problem, sizeof(problem), &not_shipped);
    if (not_shipped) {
        counts->not_shipped++;
        tally_add(&session->components, not_shipped);
        if (session->verbose)
            printf("  not shipped  %s  %s\n", name, not_shipped);
        return;
    }
    counts->cases++;
    if (!problem[0]) {
        counts->passed++;
        return;
    }
    if (!session->compat) {
        replay(session, file, item, true, again, sizeof(again), &not_shipped);
        rule = again[0] ? NULL : golden_rule_of(item);
    }
    if (rule) {
        counts->by_design++;
        tally_add(&session->rules, rule);
        if (session->verbose)
            printf("  %s  %s: %s\n", rule, name, problem);
        return;
    }
    counts->failed++;
    printf("  FAILED  %s: %s", name, problem);
    if (again[0])
        printf("; with compat: %s", again);
    else if (!session->compat)
        printf("; it passes with compat, but no rule covers it");
    printf("\n");
}

static void run_file(struct session *session, const char *folder, const char *name)
{
    char path[1024];
    json_error_t error;
    struct counts counts = {0};
    golden_driver *drive = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    json_t *root = json_load_file(path, 0, &error);
    const json_t *cases = json_object_get(root, "cases");
    const char *family = golden_text(root, "family");
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (strncmp(families[i].family, family, 4) == 0 && (family[4] == '\0' || family[4] == '_'))
            drive = families[i].drive;
    if (!root) {
        printf("%s: line %d: %s\n", name, error.line, error.text);
        counts.cases = counts.failed = 1;
    } else if (!json_is_array(cases) && json_is_array(json_object_get(root, "dropped"))) {
        printf("%-34s no cases: what the reference cannot produce\n", name);
    } else if (!json_is_array(cases) || !drive) {
        printf("%s: %s\n", name, json_is_array(cases) ? "no driver replays this family" : "not a file of reference vectors");
        counts.cases = counts.failed = json_array_size(cases) > 0 ? (int)json_array_size(cases) : 1;
    } else {
        const struct file file = {folder, cases, drive};
        for (size_t i = 0; i < json_array_size(cases); i++)
            run_case(session, &file, json_array_get(cases, i), &counts);
        printf("%-34s %4d cases, %4d passed, %3d by design, %3d failed", name, counts.cases, counts.passed, counts.by_design,
               counts.failed);
        if (counts.not_shipped)
            printf("; %d not shipped", counts.not_shipped);
        printf("\n");
    }
    session->total.cases += counts.cases;
    session->total.passed += counts.passed;
    session->total.by_design += counts.by_design;
    session->total.failed += counts.failed;
    session->total.not_shipped += counts.not_shipped;
    json_decref(root);
}

static int is_json(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static mqb_status open_run(struct golden_run *run, struct mqb_error *error)
{
    const struct mqb_entry *compute;
    mqb_status status = mqb_registry_create(mqb_host_table(), &run->registry, error);
    if (status == MQB_OK)
        status = mqb_registry_add_manifest(run->registry, MQB_BINARY_DIR "/share/mqbench/mqbench.ini", error);
    if (status == MQB_OK)
        status = mqb_registry_find(run->registry, MQB_KIND_COMPUTE, "native", &compute, error);
    if (status == MQB_OK)
        run->compute = compute->vtable;
    return status == MQB_OK ? mqb_pool_create(2, &run->pool, error) : status;
}

static void quiet(void *context, int level, const char *line)
{
    (void)context, (void)level, (void)line;
}

static bool run_folder(struct session *session, const char *folder)
{
    struct dirent **entries;
    int num_entries = scandir(folder, &entries, is_json, alphasort);
    for (int i = 0; i < num_entries; i++) {
        run_file(session, folder, entries[i]->d_name);
        free(entries[i]);
    }
    if (num_entries >= 0)
        free(entries);
    return num_entries >= 0;
}

static void print_summary(const struct session *session)
{
    const struct counts *total = &session->total;
    if (session->rules.num_entries > 0) {
        printf("by design (docs/deviations.md): ");
        tally_print(&session->rules);
    }
    if (session->components.num_entries > 0) {
        printf("not shipped, so not counted (%d): ", total->not_shipped);
        tally_print(&session->components);
    }
    printf("%d cases, %d passed, %d deviate by design, %d failed\n", total->cases, total->passed, total->by_design,
           total->failed);
}

int main(int argc, char **argv)
{
    struct session session = {0};
    struct mqb_error error = MQB_ERROR_INIT;
    const char *folder = NULL;
    bool understood = true;
    int code = 2;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--compat") == 0)
            session.compat = true;
        else if (strcmp(argv[i], "--verbose") == 0)
            session.verbose = true;
        else if (!folder && argv[i][0] != '-')
            folder = argv[i];
        else
            understood = false;
    }
    if (!folder || !understood) {
        fprintf(stderr, "usage: golden DIR [--compat] [--verbose]\n");
        return 2;
    }
    if (access(folder, F_OK) != 0) {
        printf("no reference vectors in %s: skipped\n", folder);
        return 77; /* for ctest: SKIP_RETURN_CODE */
    }
    mqb_log_set_sink(quiet, NULL);
    if (golden_rules_check(MQB_SOURCE_DIR "/docs/deviations.md", &error) != MQB_OK ||
        open_run(&session.run, &error) != MQB_OK) {
        fprintf(stderr, "golden: %s\n", error.text);
    } else if (!run_folder(&session, folder)) {
        fprintf(stderr, "golden: %s is not a folder that can be read\n", folder);
    } else {
        print_summary(&session);
        code = session.total.failed > 0 || session.total.cases == 0;
    }
    mqb_pool_destroy(session.run.pool);
    mqb_registry_destroy(session.run.registry);
    return code;
}
