/* grid_table.c - a comparison as a table: rows are algorithms; columns are backends, or bits where there is one backend. */
#include "report/grid.h"
#include "report/text.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CELL 64
#define MAX_NOTES 64

struct table {
    const struct mqb_grid *grid;
    struct mqb_text text;
    bool markdown;
    const char *notes[MAX_NOTES]; /* reasons, numbered from 1 */
    int num_notes;
};

static int note_of(struct table *t, const char *reason)
{
    for (int i = 0; i < t->num_notes; i++)
        if (strcmp(t->notes[i], reason) == 0)
            return i + 1;
    if (t->num_notes == MAX_NOTES)
        return 0;
    t->notes[t->num_notes++] = reason;
    return t->num_notes;
}

/* What holds for every cell of a backend is said once, beside its name. */
static const char *common_reason(const struct mqb_grid *grid, int backend)
{
    const struct mqb_grid_config *c = grid->config;
    const char *reason = NULL;
    int per_backend = c->num_bits * c->num_algos * c->num_seeds;
    for (int i = 0; i < per_backend; i++) {
        const struct mqb_cell *cell = &grid->cells[backend * per_backend + i];
        if (cell->state != MQB_CELL_DONE)
            continue;
        if (cell->deployable || cell->reason == NULL || (reason != NULL && strcmp(cell->reason, reason) != 0))
            return NULL;
        reason = cell->reason;
    }
    return reason;
}

static void mean_text(double mean, double spread, char out[CELL])
{
    if (isfinite(spread))
        snprintf(out, CELL, "%.2f ±%.2f", mean, spread);
    else
        snprintf(out, CELL, "%.2f", mean);
}

static void cell_text(struct table *t, int backend, int bits, int algo, char out[2 * CELL + 32])
{
    struct mqb_grid_summary s;
    char fake[CELL] = "-", integer[CELL], note[24] = "";
    mqb_grid_summarize(t->grid, backend, bits, algo, &s);
    const char *common = common_reason(t->grid, backend);
    if (s.reason != NULL && (common == NULL || strcmp(common, s.reason) != 0))
        snprintf(note, sizeof note, " [%d]", note_of(t, s.reason));
    if (isfinite(s.fake))
        mean_text(s.fake, s.fake_spread, fake);
    if (isfinite(s.integer)) {
        mean_text(s.integer, s.integer_spread, integer);
        snprintf(out, 2 * CELL + 32, "%s (%s), %.1f %%%s", integer, fake, s.labels_differ, note);
    } else {
        snprintf(out, 2 * CELL + 32, isfinite(s.fake) && common == NULL ? "(%s)%s" : "%s%s", fake, note);
    }
}

/* Columns that a UTF-8 text takes: the only character beyond ASCII is the plus-minus sign. */
static int columns(const char *text)
{
    int n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

static void add_cell(struct table *t, const char *text, int width, bool first)
{
    if (t->markdown)
        mqb_text_add(&t->text, first ? "| %s |" : " %s |", text);
    else
        mqb_text_add(&t->text, first ? "  %s%*s" : "  %s%*s", text, width - columns(text), "");
}

/* One table: `bits` fixed and a column a backend (bits >= 0), or the only backend and a column for each width. */
static void add_table(struct table *t, int bits)
{
    const struct mqb_grid_config *c = t->grid->config;
    int num_columns = bits >= 0 ? c->num_backends : c->num_bits, widths[64], first = 10;
    char text[2 * CELL + 32], head[CELL];
    for (int a = 0; a < c->num_algos; a++)
        first = columns(c->algos[a]) > first ? columns(c->algos[a]) : first;
    for (int k = 0; k < num_columns && k < 64; k++) {
        widths[k] = bits >= 0 ? columns(c->backends[k]) : 5;
        for (int a = 0; a < c->num_algos; a++) {
            cell_text(t, bits >= 0 ? k : 0, bits >= 0 ? bits : k, a, text);
            widths[k] = columns(text) > widths[k] ? columns(text) : widths[k];
        }
    }
    add_cell(t, bits >= 0 ? "algorithm" : c->backends[0], first, true);
    for (int k = 0; k < num_columns; k++) {
        if (bits >= 0)
            snprintf(head, sizeof head, "%.60s", c->backends[k]);
        else
            snprintf(head, sizeof head, "%d/%d", c->bits[k][0], c->bits[k][1]);
        add_cell(t, head, widths[k], false);
    }
    mqb_text_add(&t->text, "\n");
    if (t->markdown) {
        mqb_text_add(&t->text, "|---|");
        for (int k = 0; k < num_columns; k++)
            mqb_text_add(&t->text, "---|");
        mqb_text_add(&t->text, "\n");
    }
    for (int a = 0; a < c->num_algos; a++) {
        add_cell(t, c->algos[a], first, true);
        for (int k = 0; k < num_columns; k++) {
            cell_text(t, bits >= 0 ? k : 0, bits >= 0 ? bits : k, a, text);
            add_cell(t, text, widths[k], false);
        }
        mqb_text_add(&t->text, "\n");
    }
    mqb_text_add(&t->text, "\n");
}

static void add_head(struct table *t)
{
    const struct mqb_grid_config *c = t->grid->config;
    const struct mqb_cell *any = NULL;
    const char *indent = t->markdown ? "" : "  ";
    for (int i = 0; i < t->grid->num_cells && any == NULL; i++)
        if (isfinite(t->grid->cells[i].fp32))
            any = &t->grid->cells[i];
    if (any != NULL)
        mqb_text_add(&t->text, "%sFP32 %.2f %%, %lld test images, %d seed%s%s. Top-1 in percent.\n", indent, any->fp32,
                     (long long)any->n_test, c->num_seeds, c->num_seeds == 1 ? "" : "s",
                     c->num_seeds == 1 ? "" : " (mean ± standard deviation)");
    bool deploys = false;
    for (int b = 0; b < c->num_backends; b++) {
        const char *reason = common_reason(t->grid, b);
        deploys |= reason == NULL;
        if (reason != NULL)
            mqb_text_add(&t->text, "%s%s: fake quantization alone; %s.\n", indent, c->backends[b], reason);
    }
    if (deploys)
        mqb_text_add(&t->text,
                     "%sA cell: integer (fake), share of labels on which the two differ. (fake) alone: not deployed.\n",
                     indent);
    /* Of a difference on the same images: each label that differs adds at most one to its variance. */
    if (deploys && any != NULL && any->n_test > 0)
        mqb_text_add(&t->text,
                     "%sStandard errors in points: %.2f of FP32; of integer less fake at most %.2f where 1 %% of the labels differ, "
                     "growing with the root.\n",
                     indent, 100.0 * sqrt(any->fp32 / 100.0 * (1.0 - any->fp32 / 100.0) / (double)any->n_test),
                     100.0 * sqrt(0.01 / (double)any->n_test));
    mqb_text_add(&t->text, "\n");
}

mqb_status mqb_grid_screen(const struct mqb_grid *grid, bool markdown, char **text, struct mqb_error *error)
{
    struct table t = {.grid = grid, .markdown = markdown};
    char time[MQB_SHORT];
    const struct mqb_grid_config *c = grid->config;
    if (!markdown)
        mqb_text_add(&t.text, "\n");
    add_head(&t);
    if (c->num_backends == 1) {
        add_table(&t, -1);
    } else {
        for (int bits = 0; bits < c->num_bits; bits++) {
            mqb_text_add(&t.text, markdown ? "**%d/%d bits**\n\n" : "  %d/%d bits\n", c->bits[bits][0], c->bits[bits][1]);
            add_table(&t, bits);
        }
    }
    for (int i = 0; i < t.num_notes; i++) {
        char number[16];
        snprintf(number, sizeof number, "%s[%d] ", markdown ? "" : "  ", i + 1);
        mqb_text_add(&t.text, "%s", number);
        if (markdown)
            mqb_text_add(&t.text, "%s\n\n", t.notes[i]);
        else
            mqb_text_wrap(&t.text, t.notes[i], 6, 100);
    }
    mqb_text_seconds(grid->seconds, time);
    if (!markdown)
        mqb_text_add(&t.text, "\n  %d of %d runs, %s\n\n", grid->num_done, grid->num_cells, time);
    if (t.text.failed) {
        mqb_text_deinit(&t.text);
        return mqb_fail(error, MQB_ERR_MEMORY, "no memory to write the comparison as text");
    }
    *text = t.text.data;
    return MQB_OK;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

mqb_status mqb_grid_json(const struct mqb_grid *grid, char **text, struct mqb_error *error)
{
    const struct mqb_grid_config *c = grid->config;
    json_t *root = json_object(), *cells = json_array();
    json_object_set_new(root, "schema", json_string(MQB_GRID_SCHEMA));
    for (int i = 0; i < grid->num_cells; i++) {
        const struct mqb_cell *cell = &grid->cells[i];
        static const char *const states[] = {"done", "refused", "ended"};
        json_array_append_new(
            cells, json_pack("{s:s, s:s, s:[i, i], s:I, s:s, s:s, s:b, s:o, s:o, s:o, s:I, s:o}", "backend",
                             c->backends[cell->backend], "algo", c->algos[cell->algo], "bits", c->bits[cell->bits][0],
                             c->bits[cell->bits][1], "seed", (json_int_t)c->seeds[cell->seed], "state",
                             i < grid->num_done ? states[cell->state] : "not run", "reason",
                             cell->reason != NULL ? cell->reason : "", "deployable", cell->deployable, "fp32",
                             number(cell->fp32), "fake", number(cell->fake), "integer", number(cell->integer), "labels_differ",
                             (json_int_t)cell->labels_differ, "seconds", number(cell->seconds)));
    }
    json_object_set_new(root, "cells", cells);
    char *dumped =
        json_array_size(cells) == (size_t)grid->num_cells ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(15)) : NULL;
    *text = dumped != NULL ? mqb_format("%s\n", dumped) : NULL;
    free(dumped);
    json_decref(root);
    return *text != NULL ? MQB_OK : mqb_fail(error, MQB_ERR_MEMORY, "no memory to write the comparison as JSON");
}
