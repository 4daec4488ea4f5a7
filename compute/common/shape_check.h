/*
 * shape_check.h - what every provider that stands on a library asks of a convolution before it makes a plan.
 */
#ifndef SHAPE_CHECK_H
#define SHAPE_CHECK_H

#include <mqbench/compute.h>

/* MQB_OK if the sizes are positive, agree with one another, and every tensor can be addressed. `provider` begins the sentence.
 */
mqb_status shape_check(const struct mqb_host *host, const char *provider, const struct mqb_conv_shape *shape,
                       int32_t max_images, struct mqb_error *error);

#endif
