// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. Four elements a thread: a group's width apart, or with 16 bits
// neighbours where they are whole vectors.
__device__ __forceinline__ float element(float a, float b, float s) { return EXPRESSION; }

__device__ __forceinline__ void elementwise_body(const Stored* pa, const Stored* pb, Stored* y, unsigned elements,
                                                 unsigned period, float s) {
#if STORAGE
  if (elements % 4 == 0 && aligned4(pa) && aligned4(y) && (!pb || period == 1 || (period % 4 == 0 && aligned4(pb)))) {
    for (size_t i = (size_t)blockIdx.x * 1024 + 4 * threadIdx.x; i < elements; i += (size_t)gridDim.x * 1024) {
      float4 a = load4(pa + i), b = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (pb && period == 1) {
        b.x = b.y = b.z = b.w = *pb;
      } else if (pb) {
        b = load4(pb + (period == elements ? i : (unsigned)i % period));
      }
      a = make_float4(element(a.x, b.x, s), element(a.y, b.y, s), element(a.z, b.z, s), element(a.w, b.w, s));
      store4(y + i, a);
    }
    return;
  }
#endif
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
extern "C" __global__ void elementwise(const Stored* a, const Stored* b, Stored* y, unsigned elements,
                                       unsigned period, float s) {
  elementwise_body(a, b, y, elements, period, s);
}
#else
extern "C" __global__ void elementwise(const Stored* a, Stored* y, unsigned elements, unsigned period, float s) {
  elementwise_body(a, nullptr, y, elements, period, s);
}
#endif
