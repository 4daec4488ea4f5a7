/* cmd_list.c - what can be chosen, and what was refused and why. */
#include "args.h"
#include "list_tree.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>

#define COLUMN 18

static const char *text_of(const json_t *item, const char *key)
{
    const char *text = json_string_value(json_object_get(item, key));
    return text != NULL ? text : "";
}

static void print_range(const json_t *option)
{
    const char *type = text_of(option, "type");
    if (strcmp(type, "choice") == 0)
        printf("one of %s", text_of(option, "choices"));
    else if (strcmp(type, "bool") == 0)
        printf("on or off");
    else if (json_object_get(option, "min") != NULL)
        printf("%s %.10g to %.10g", strcmp(type, "int") == 0 ? "whole number" : "number", json_real_value(json_object_get(option, "min")),
               json_real_value(json_object_get(option, "max")));
    else
        printf("text");
}

static void print_options(const json_t *item)
{
    const json_t *option;
    size_t i;
    json_array_foreach(json_object_get(item, "options"), i, option) {
        printf("  %-*s  %s.%s=%s   ", COLUMN, "", text_of(item, "id"), text_of(option, "name"), text_of(option, "default"));
        print_range(option);
        printf("\n  %-*s      %s\n", COLUMN, "", text_of(option, "doc"));
    }
}

static void print_item(const json_t *item, bool options)
{
    const char *doc = text_of(item, "description")[0] != '\0' ? text_of(item, "description") : text_of(item, "doc");
    const json_t *score = json_object_get(item, "score");
    if (doc[0] == '\0' && text_of(item, "refusal")[0] == '\0') {
        printf("  %s\n", text_of(item, "id"));
        return;
    }
    printf("  %-*s", COLUMN, text_of(item, "id"));
    if (text_of(item, "refusal")[0] != '\0')
        printf("  refused: %s\n", text_of(item, "refusal"));
    else if (score != NULL && json_integer_value(score) <= 0)
        printf("  %s; not usable on this machine\n", doc);
    else if (score != NULL)
        printf("  %s (%s, score %lld)\n", doc, text_of(item, "isa"), (long long)json_integer_value(score));
    else
        printf("  %s\n", doc);
    if (options)
        print_options(item);
}

static void print_tree(json_t *tree, bool options)
{
    const char *name;
    json_t *items, *item;
    size_t i;
    bool first = true;
    json_object_foreach(tree, name, items) {
        printf("%s%s\n", first ? "" : "\n", name);
        if (json_array_size(items) == 0)
            printf("  none; see --manifest\n");
        json_array_foreach(items, i, item)
            print_item(item, options);
        first = false;
    }
}

/* Keeps one section; its name may be singular ("backend"), too. */
static bool keep_section(json_t *tree, const char *word)
{
    static const char *const singular[][2] = {
        {"backend", "backends"}, {"algorithm", "algorithms"}, {"algo", "algorithms"},  {"quantizers", "algorithms"},
        {"pass", "passes"},      {"dataset", "datasets"},     {"data", "datasets"},    {"model", "models"},
        {"observer", "observers"}, {"quantizer", "algorithms"},
    };
    const char *names[16], *name;
    json_t *items;
    void *next;
    size_t num_names = 0;
    for (size_t i = 0; i < sizeof singular / sizeof singular[0]; i++)
        if (strcmp(word, singular[i][0]) == 0)
            word = singular[i][1];
    json_object_foreach(tree, name, items)
        if (num_names < 16)
            names[num_names++] = name;
    if (json_object_get(tree, word) == NULL) {
        const char *nearest = mqb_nearest(word, names, num_names);
        cli_error("there is no list of '%s'%s%s%s; the lists are backends, algorithms, passes, compute, datasets, models, observers", word,
                  nearest != NULL ? ", did you mean '" : "", nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
        return false;
    }
    json_object_foreach_safe(tree, next, name, items)
        if (strcmp(name, word) != 0)
            json_object_del(tree, name);
    return true;
}

static int print_json(const json_t *tree, const char *path)
{
    char *text = json_dumps(tree, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    bool written = text != NULL && cli_write_record(path, text);
    if (text == NULL)
        cli_error("no memory to write the list as JSON");
    if (written && strcmp(path, "-") == 0)
        printf("\n");
    free(text);
    return written ? CLI_OK : CLI_FAILED;
}

int cmd_list(int argc, char **argv)
{
    const char *section = NULL, *manifest = NULL, *json = NULL;
    bool options = false;
    const struct cli_flag flags[] = {
        {"options", NULL, CLI_SWITCH, &options, 0, 0, "each option with its default, range and meaning", NULL},
        {"json", "[FILE]", CLI_OPTIONAL_TEXT, &json, 0, 0, "as JSON, with libraries and their SHA-256", NULL},
        {"manifest", "FILE.ini", CLI_TEXT, &manifest, 0, 0, "a further manifest of components", NULL},
        {NULL, NULL, CLI_SWITCH, NULL, 0, 0, NULL, NULL},
    };
    const struct cli_syntax syntax = {
        .usage = "mqbench list [backends|algorithms|passes|compute|datasets|models|observers] [flags]",
        .about = "Shows what can be chosen. A component that was refused is shown with the reason.\n"
                 "Options are given as --set NAME.OPTION=VALUE, or in a manifest.",
        .flags = flags,
        .words = &section,
        .max_words = 1,
        .word_name = "the name of a list",
    };
    enum cli_parsed parsed = cli_parse(&syntax, argc, argv);
    if (parsed != CLI_GO)
        return cli_parsed_exit(parsed);
    struct mqb_error error = MQB_ERROR_INIT;
    json_t *tree = NULL;
    mqb_status status = list_tree_create(manifest, &tree, &error);
    if (status != MQB_OK)
        return cli_fail(status, &error);
    int code = CLI_OK;
    if (section != NULL && !keep_section(tree, section))
        code = CLI_WRONG;
    else if (json != NULL)
        code = print_json(tree, json);
    else
        print_tree(tree, options);
    json_decref(tree);
    return code;
}
