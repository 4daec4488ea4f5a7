/* mqbench/mqbench.h - the whole plugin SDK. */
#ifndef MQBENCH_MQBENCH_H
#define MQBENCH_MQBENCH_H

#include <mqbench/types.h>
#include <mqbench/plugin.h>
#include <mqbench/host.h>
#include <mqbench/quantizer.h>
#include <mqbench/graph.h>
#include <mqbench/backend.h>
#include <mqbench/compute.h>
#include <mqbench/steps.h>

#endif
