/* NUTS in double precision. */

#define REAL double
#define BITS uint64_t
#define NAME(x) x##_double
#define DIGITS 53
#define EXP_TERMS 13
#define LOG_TERMS 17
#define LOWEST -708
#define MANTISSA 52
#define BIAS 1023

#include "nuts.h"
