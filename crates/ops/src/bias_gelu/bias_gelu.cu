// h = x + bias, y = gelu(h), four elements a thread, a group's width apart; h may be x.
__device__ __forceinline__ void bias_gelu_body(const float* x, const float* bias, float* h, float* y,
                                               unsigned elements, unsigned columns) {
  for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) {
    float a[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      a[k] = i < elements ? x[i] + bias[(unsigned)i % columns] : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      if (i >= elements) continue;
      h[i] = a[k];
      y[i] = 0.5f * a[k] * (1.0f + erf_(a[k] * 0.70710678f));
    }
  }
}

extern "C" __global__ void bias_gelu(const float* x, const float* bias, float* h, float* y, unsigned elements,
                                     unsigned columns) {
  bias_gelu_body(x, bias, h, y, elements, columns);
}
