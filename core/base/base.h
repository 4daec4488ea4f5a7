/*
 * base.h - what every room stands on: errors, memory, files, hashes, random numbers, threads, time.
 * Nothing here knows about graphs, plugins or quantization.
 */
#ifndef MQB_BASE_H
#define MQB_BASE_H

#include <mqbench/types.h>
#include <mqbench/host.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* ---- errors (error.c) ---- */

/* Writes the sentence into `error` (NULL allowed, cut at the buffer's end) and returns `status`. */
mqb_status mqb_fail(struct mqb_error *error, mqb_status status, const char *format, ...) MQB_PRINTF(3, 4);
/* Puts "prefix: " before the sentence already in `error`; returns `status`. */
mqb_status mqb_fail_prefix(struct mqb_error *error, mqb_status status, const char *format, ...) MQB_PRINTF(3, 4);
#define MQB_ERROR_INIT { sizeof(struct mqb_error), 0, "" }

/* Where log lines go; NULL restores the default, which drops MQB_LOG_DEBUG and writes the rest to standard error.
 * Set once, before threads exist; lines come one at a time, from any thread. */
typedef void (*mqb_log_sink)(void *context, int level, const char *line);
void mqb_log_set_sink(mqb_log_sink sink, void *context);
void mqb_log(int level, const char *format, ...) MQB_PRINTF(2, 3);

/* The candidate nearest to `name` by edit distance, or NULL if none is near enough to suggest. */
const char *mqb_nearest(const char *name, const char *const *candidates, size_t num_candidates);

/* ---- memory (memory.c) ---- */

/* 64-byte aligned, zeroed; NULL for size 0 or no memory. Large blocks ask for huge pages. */
void *mqb_allocate(size_t size);
void *mqb_allocate_array(size_t count, size_t size); /* NULL on overflow */
void *mqb_allocate_raw(size_t size);                 /* not zeroed: for whoever fills all of it at once */
/* Not zeroed either, and no huge pages: large blocks are addresses alone until they are written. */
void *mqb_reserve_array(size_t count, size_t size);
void mqb_deallocate(void *memory);                   /* NULL allowed */
char *mqb_strdup(const char *text);                  /* NULL on no memory; freed by mqb_deallocate */
char *mqb_format(const char *format, ...) MQB_PRINTF(1, 2); /* same */
size_t mqb_peak_rss(void);                           /* bytes */

/* ---- files (file.c) ---- */

/* The whole file; data is NUL-terminated beyond size, freed by mqb_deallocate. Errors name the path. */
mqb_status mqb_file_read(const char *path, size_t max_size, void **data, size_t *size, struct mqb_error *error);
/* Writes beside `path`, then renames: a full disk leaves the old file. path "-" writes to standard output. */
mqb_status mqb_file_write(const char *path, const void *data, size_t size, struct mqb_error *error);
mqb_status mqb_dir_create(const char *path, struct mqb_error *error); /* with parents; fine if it exists */
bool mqb_file_exists(const char *path);
char *mqb_path_join(const char *dir, const char *name);   /* name if it is absolute */
char *mqb_path_dir(const char *path);                     /* "." if none */
/* The folder with mqbench.ini, recipes/ and models/: MQBENCH_HOME, else relative to the executable. */
char *mqb_home(void);

/* ---- INI text (ini.c) ---- */

/* What a reader does with what it meets, in file order. A status other than MQB_OK ends the reading.
 * section: a header, as it stands between the line's ends ("[kind id] ; why"). NULL: `section` of key() is enough.
 * key: `section` is what stands between the brackets, or "" before the first header, or if section() takes the headers. */
struct mqb_ini_handlers {
    mqb_status (*section)(void *user, const char *header, size_t length, int line, struct mqb_error *error);
    mqb_status (*key)(void *user, const char *section, const char *key, const char *value, int line, struct mqb_error *error);
};
/* `path` is only named in errors: "path:line: ...". Refuses zero bytes, lines beyond inih's buffer, and what is no key. */
mqb_status mqb_ini_parse(const char *text, size_t size, const char *path, const struct mqb_ini_handlers *handlers, void *user,
                         struct mqb_error *error);
/* A piece of a file as an error may show it: no control characters, not too long. Returns `buffer`. */
const char *mqb_ini_shown(char buffer[64], const char *text, size_t length);

/* ---- SHA-256 (sha256.c) ---- */

struct mqb_sha256 {
    uint32_t state[8];
    uint64_t num_bytes;
    uint8_t block[64];
    bool hardware; /* by instructions of the CPU; the hash is the same */
};
void mqb_sha256_init(struct mqb_sha256 *hash);
void mqb_sha256_update(struct mqb_sha256 *hash, const void *data, size_t size);
void mqb_sha256_hex(struct mqb_sha256 *hash, char hex[65]); /* finishes */
mqb_status mqb_sha256_file(const char *path, char hex[65], struct mqb_error *error);

/* ---- random numbers (random.c): Philox 4x32-10, counter-based ---- */

void mqb_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
float mqb_uniform(uint64_t seed, uint64_t stream, uint64_t counter);  /* [0, 1), 24 bits */
double mqb_normal(uint64_t seed, uint64_t stream, uint64_t counter);  /* Box-Muller, from mqb_vlog and friends: same bits anywhere */
/* A permutation of 0..n-1 that depends on (seed, stream) alone. */
void mqb_shuffle(uint64_t seed, uint64_t stream, uint32_t *index, uint32_t n);

/* ---- elementary functions that do not depend on the C library (vmath.c); correct to 1e-14 relative ---- */

double mqb_exp(double x);
double mqb_log2(double x);
double mqb_ln(double x);
/* y[i] = mqb_ln(x[i]), the same bits, in vectors; every x positive, normal and finite. y may be x. */
void mqb_ln_each(const double *x, double *y, int n);
double mqb_tanh(double x);
double mqb_sin(double x);
double mqb_cos(double x);

/* ---- threads (pool.c) ---- */

/* A pool hands out tasks one by one, so an idle thread always takes the next; waiting threads sleep after a short spin.
 * Which thread runs which task is not determined: tasks must not depend on it. */
struct mqb_pool;
mqb_status mqb_pool_create(int num_threads, struct mqb_pool **pool, struct mqb_error *error); /* 0: as many as CPUs */
void mqb_pool_destroy(struct mqb_pool *pool);
int mqb_pool_num_threads(const struct mqb_pool *pool);
/* Runs task(context, i, worker) for i in [0, num_tasks), worker in [0, num_threads); returns when all are done.
 * Not reentrant: a task must not call it. */
void mqb_pool_run(struct mqb_pool *pool, int num_tasks, void (*task)(void *context, int index, int worker), void *context);

/* ---- fixed-order sums (sum.c) ---- */

/* target[i] = sum over g of parts[g * stride + i], as one binary tree over g that depends on num_parts alone.
 * Overwrites `parts`. target may be parts. */
void mqb_tree_sum_f32(float *target, float *parts, int num_parts, size_t stride, size_t count);
void mqb_tree_sum_f64(double *target, double *parts, int num_parts, size_t stride, size_t count);

/* ---- time (file.c) ---- */

double mqb_seconds(void);     /* monotonic; for reports, never for results */
double mqb_cpu_seconds(void); /* processor time of the whole program, likewise */

/* ---- instruction set (isa.c) ---- */

/* AVX-512 (F, BW, VL, DQ), unless MQBENCH_ISA names another set. Asked when something is made, never while it runs. */
bool mqb_isa_wide(void);

#endif
