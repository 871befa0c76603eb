/* NUTS in single precision. */

#define REAL float
#define BITS uint32_t
#define NAME(x) x##_float
#define DIGITS 24
#define EXP_TERMS 7
#define LOG_TERMS 7
#define LOWEST -87
#define MANTISSA 23
#define BIAS 127

#include "nuts.h"
