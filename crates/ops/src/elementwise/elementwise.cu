// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. Four elements a thread, a group's width apart.
__device__ __forceinline__ float element(float a, float b, float s) { return EXPRESSION; }

__device__ __forceinline__ void elementwise_body(const float* pa, const float* pb, float* y, unsigned elements,
                                                 unsigned period, float s) {
  for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) {
    float a[4], b[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      a[k] = i < elements ? pa[i] : 0.0f;
      b[k] = pb && i < elements ? pb[period == elements ? i : (unsigned)i % period] : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      if (i < elements) y[i] = element(a[k], b[k], s);
    }
  }
}

#ifdef HAS_b
extern "C" __global__ void elementwise(const float* a, const float* b, float* y, unsigned elements, unsigned period,
                                       float s) {
  elementwise_body(a, b, y, elements, period, s);
}
#else
extern "C" __global__ void elementwise(const float* a, float* y, unsigned elements, unsigned period, float s) {
  elementwise_body(a, nullptr, y, elements, period, s);
}
#endif
