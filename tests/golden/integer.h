/* integer.h - drivers of family 5 that integer.c dispatches to. */
#ifndef GOLDEN_INTEGER_H
#define GOLDEN_INTEGER_H

#include "golden.h"

golden_driver golden_qconv_case; /* qconv.c: a quantized convolution or linear layer, as PyTorch's engines compute it */

#endif
