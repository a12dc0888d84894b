// h = x + bias, y = gelu(h), four elements a thread: a group's width apart, or with 16 bits neighbours where they are whole
// vectors. h may be x.
__device__ __forceinline__ float gelu_of(float a) { return 0.5f * a * (1.0f + erf_(a * 0.70710678f)); }

__device__ __forceinline__ void bias_gelu_body(const Stored* x, const Stored* bias, Stored* h, Stored* y,
                                               unsigned elements, unsigned columns) {
#if STORAGE
  if (columns % 4 == 0 && aligned4(x) && aligned4(bias) && aligned4(h) && aligned4(y)) {
    for (size_t i = (size_t)blockIdx.x * 1024 + 4 * threadIdx.x; i < elements; i += (size_t)gridDim.x * 1024) {
      float4 a = load4(x + i), b = load4(bias + (unsigned)i % columns);
      a = make_float4(rounded<Stored>(a.x + b.x), rounded<Stored>(a.y + b.y), rounded<Stored>(a.z + b.z),
                      rounded<Stored>(a.w + b.w));
      store4(h + i, a);
      store4(y + i, make_float4(gelu_of(a.x), gelu_of(a.y), gelu_of(a.z), gelu_of(a.w)));
    }
    return;
  }
#endif
  for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) {
    float a[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      a[k] = i < elements ? rounded<Stored>(x[i] + bias[(unsigned)i % columns]) : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      if (i >= elements) continue;
      h[i] = a[k];
      y[i] = gelu_of(a[k]);
    }
  }
}

extern "C" __global__ void bias_gelu(const Stored* x, const Stored* bias, Stored* h, Stored* y, unsigned elements,
                                     unsigned columns) {
  bias_gelu_body(x, bias, h, y, elements, columns);
}
