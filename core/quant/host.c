/*
 * host.c - the table of services that every plugin is handed.
 */
#include "quant/observer.h"

const struct mqb_host *mqb_host_table(void)
{
    static const struct mqb_host host = {
        .struct_size = sizeof(struct mqb_host),
        .abi_major = MQB_ABI_MAJOR,
        .abi_minor = MQB_ABI_MINOR,
        .fail = mqb_fail,
        .log = mqb_log,
        .allocate = mqb_allocate,
        .deallocate = mqb_deallocate,
        .option_int = mqb_option_int,
        .option_real = mqb_option_real,
        .option_text = mqb_option_text,
        .uniform = mqb_uniform,
        .observer_create = mqb_observer_create,
        .observer_observe = mqb_observer_observe,
        .observer_qparams = mqb_observer_qparams,
        .observer_range = mqb_observer_range,
        .observer_destroy = mqb_observer_destroy,
        .graph = &mqb_graph_calls,
    };
    return &host;
}
