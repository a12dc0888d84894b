// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. One element a thread.
__device__ __forceinline__ void elementwise_body(const float* pa, const float* pb, float* y, unsigned elements,
                                                 unsigned period, float s) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= elements) return;
  float a = pa[i];
  float b = pb ? pb[period == elements ? i : i % period] : 0.0f;
  y[i] = EXPRESSION;
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
