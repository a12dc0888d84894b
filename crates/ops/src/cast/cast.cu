// y[i] = x[i] with another element type. Four elements a thread, a group's width apart.
#define CAST(NAME, FROM, TO, EXPRESSION)                                                     \
  extern "C" __global__ void NAME(const FROM* x, TO* y, unsigned elements) {                 \
    for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) { \
      _Pragma("unroll") for (unsigned k = 0; k < 4; k++) {                                   \
        size_t i = from + k * 256 + threadIdx.x;                                             \
        if (i < elements) y[i] = EXPRESSION(x[i]);                                           \
      }                                                                                      \
    }                                                                                        \
  }

CAST(cast_to_bf16, float, unsigned short, bf16_of)
CAST(cast_from_bf16, unsigned short, float, float_of_bf16)
CAST(cast_to_f16, float, unsigned short, f16_of)
CAST(cast_from_f16, unsigned short, float, float_of_f16)
