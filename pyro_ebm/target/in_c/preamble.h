// What every density in C begins with.
#include <float.h>
#include <stdint.h>
#include <string.h>

// So glibc tells the compiler which of its functions take whole vectors, and nothing else changes.
#ifndef __FAST_MATH__
#define __FAST_MATH__ 1
#include <math.h>
#undef __FAST_MATH__
#else
#include <math.h>
#endif

typedef unsigned char flag;

// GCC 12 takes some loops that it has made vectors of for loops that write nothing, and leaves out
// the calls of their functions: callers must not know what is inside.
#if defined(__has_attribute) && __has_attribute(noipa)
#define ALONE __attribute__((noipa))
#else
#define ALONE __attribute__((noinline))
#endif

// The logarithmic derivative of the gamma function: recurrence up to 10, then its asymptotic series
// (Abramowitz and Stegun 6.3.18); reflected below zero.
static inline double digamma_(double x) {
  double sum = 0.0;
  if (x <= 0.0) {
    if (x == floor(x)) return x == 0.0 ? copysign(INFINITY, -x) : NAN;
    sum = -M_PI / tan(M_PI * (x - floor(x)));
    x = 1.0 - x;
  }
  for (; x < 10.0; x += 1.0) sum -= 1.0 / x;
  const double s = 1.0 / (x * x);
  const double series =
      s * (1.0 / 12 - s * (1.0 / 120 - s * (1.0 / 252 - s * (1.0 / 240 - s * (1.0 / 132 - s * (691.0 / 32760 - s / 12))))));
  return sum + log(x) - 0.5 / x - series;
}
static inline float digamma_f(float x) { return (float)digamma_(x); }

#define OF_TYPE(real, f)                                                             \
  static inline real xlogy_##f(real x, real y) {                                     \
    return y != y ? y : x == 0 ? 0 : x * log##f(y);                                  \
  }                                                                                  \
  static inline real xlog1py_##f(real x, real y) {                                   \
    return y != y ? y : x == 0 ? 0 : x * log1p##f(y);                                \
  }                                                                                  \
  static inline real logaddexp_##f(real x, real y) {                                 \
    const real most = x > y ? x : y, least = x > y ? y : x;                          \
    return most == least || fabs##f(most) == INFINITY                                \
               ? (x != x ? x : y != y ? y : most + (most == least ? (real)M_LN2 : 0)) \
               : most + log1p##f(exp##f(least - most));                              \
  }                                                                                  \
  static inline real silu_slope_##f(real x) {                                        \
    const real s = 1 / (1 + exp##f(-x));                                             \
    return s * (1 + x * (1 - s));                                                    \
  }                                                                                  \
  static inline real normal_below_##f(real x) {                                      \
    return (real)0.5 * (1 + erf##f(x * (real)M_SQRT1_2));                            \
  }                                                                                  \
  static inline real gelu_slope_##f(real x) {                                        \
    const real density = exp##f(x * x * (real)-0.5) * (real)(M_SQRT1_2 * M_2_SQRTPI / 2); \
    return normal_below_##f(x) + x * density;                                        \
  }
OF_TYPE(float, f)
OF_TYPE(double, )
