/* cpu.h - CPU features by name, for `cpu =` in a manifest. */
#ifndef MQB_PLUGIN_CPU_H
#define MQB_PLUGIN_CPU_H

#include <stdbool.h>
#include <stddef.h>

enum mqb_cpu_answer { MQB_CPU_HAS, MQB_CPU_LACKS, MQB_CPU_UNKNOWN_NAME };

/* Names are those of the compiler or of /proc/cpuinfo: "avx512_vnni", "avx512vnni", "sse4.1" and "sse4_1" all do.
 * UNKNOWN_NAME: no feature that this build of the host can ask for (also: one of another architecture). */
enum mqb_cpu_answer mqb_cpu_has(const char *name, size_t length);
/* The nearest known name, or NULL. */
const char *mqb_cpu_nearest(const char *name);

#endif
