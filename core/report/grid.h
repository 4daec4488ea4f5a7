/*
 * grid.h - many jobs from one FP32 network: backends x algorithms x bits x seeds, one after the other, and one table of them.
 *
 * Each cell is a job like any other, with its own result record; a table is made from records alone. With a folder, each cell's
 * record is kept there, and a cell whose record is already there is not run again: an interrupted comparison goes on.
 */
#ifndef MQB_GRID_H
#define MQB_GRID_H

#include "report/report.h"

#define MQB_GRID_SCHEMA "mqbench.compare/1"

struct mqb_grid_config {
    struct mqb_job_config job; /* what all cells share; backend, algorithms, bits, seed and out are the grid's */
    const char *const *backends;
    int num_backends;
    const char *const *algos;  /* "lsq", or "dorefa/pact": weights / activations */
    int num_algos;
    int (*bits)[2];            /* weights, activations */
    int num_bits;
    const uint64_t *seeds;
    int num_seeds;
    const char *folder;        /* of the records; NULL: none are kept */
};

enum mqb_cell_state {
    MQB_CELL_DONE = 0,    /* accuracies are there */
    MQB_CELL_REFUSED = 1, /* before anything was computed: `reason` */
    MQB_CELL_ENDED = 2    /* a stage failed: `reason`; what was computed before is there */
};

struct mqb_cell {
    int backend, algo, bits, seed; /* indices into the config */
    enum mqb_cell_state state;
    char *reason;                  /* why refused, ended, or not deployable; "" */
    bool deployable, taken;        /* taken: from a record that was there */
    double fp32, fake, integer;    /* top-1 in percent; NaN: not there */
    int64_t n_test, labels_differ; /* labels_differ: of integer and fake; -1: not there */
    double seconds;
};

struct mqb_grid {
    const struct mqb_grid_config *config;
    struct mqb_cell *cells; /* backend-major, then bits, algorithm, seed */
    int num_cells, num_done;
    double seconds;
};

/* Runs all cells. A cell that fails does not end the grid; only what concerns all of them does (no memory, a folder that cannot be
 * written). The grid then holds what was done. */
mqb_status mqb_grid_run(const struct mqb_grid_config *config, struct mqb_grid **grid, struct mqb_error *error);
void mqb_grid_destroy(struct mqb_grid *grid);

/* Over the seeds of one backend, width and algorithm. */
struct mqb_grid_summary {
    int cells, done;
    double fp32, fake, fake_spread, integer, integer_spread; /* means, and sample standard deviations (NaN for fewer than two) */
    double labels_differ;                                    /* mean share, percent; NaN: not there */
    const char *reason;                                      /* of the first cell that has one */
    bool deployable;
};
void mqb_grid_summarize(const struct mqb_grid *grid, int backend, int bits, int algo, struct mqb_grid_summary *summary);

/* grid_table.c: for people (a screen, or Markdown for a document) and for programs. */
mqb_status mqb_grid_screen(const struct mqb_grid *grid, bool markdown, char **text, struct mqb_error *error);
mqb_status mqb_grid_json(const struct mqb_grid *grid, char **text, struct mqb_error *error);

#endif
