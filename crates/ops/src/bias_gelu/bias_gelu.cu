// h = x + bias, y = gelu(h), one element a thread; h may be x.
__device__ __forceinline__ void bias_gelu_body(const float* x, const float* bias, float* h, float* y,
                                               unsigned elements, unsigned columns) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= elements) return;
  float a = x[i] + bias[i % columns];
  h[i] = a;
  y[i] = 0.5f * a * (1.0f + erf_(a * 0.70710678f));
}

extern "C" __global__ void bias_gelu(const float* x, const float* bias, float* h, float* y, unsigned elements,
                                     unsigned columns) {
  bias_gelu_body(x, bias, h, y, elements, columns);
}
