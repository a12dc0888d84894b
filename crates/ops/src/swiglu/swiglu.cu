// y = silu(g) u over rows of g and then u, and its gradient; four elements a thread: a group's width apart, or with 16 bits
// neighbours where they are whole vectors.
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float swiglu_of(float g, float u) { return g * sigmoid(g) * u; }

// The gradients of g and u, given that of y.
__device__ __forceinline__ float2 swiglu_gradient(float g, float u, float v) {
  float s = sigmoid(g);
  return make_float2(v * u * s * (1.0f + g * (1.0f - s)), v * g * s);
}

__device__ __forceinline__ void swiglu_body(const Stored* gate_up, Stored* y, unsigned elements, unsigned n) {
#if STORAGE
  if (n % 4 == 0 && aligned4(gate_up) && aligned4(y)) {
    for (size_t i = (size_t)blockIdx.x * 1024 + 4 * threadIdx.x; i < elements; i += (size_t)gridDim.x * 1024) {
      size_t at = i + (size_t)((unsigned)i / n) * n;
      float4 g = load4(gate_up + at), u = load4(gate_up + at + n);
      store4(y + i, make_float4(swiglu_of(g.x, u.x), swiglu_of(g.y, u.y), swiglu_of(g.z, u.z), swiglu_of(g.w, u.w)));
    }
    return;
  }
#endif
  for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) {
    float g[4], u[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      size_t at = i + (size_t)((unsigned)i / n) * n;
      g[k] = i < elements ? gate_up[at] : 0.0f;
      u[k] = i < elements ? gate_up[at + n] : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      if (i < elements) y[i] = swiglu_of(g[k], u[k]);
    }
  }
}

// d may be gate_up.
__device__ __forceinline__ void swiglu_backward_body(const Stored* gate_up, const Stored* dy, Stored* d,
                                                     unsigned elements, unsigned n) {
#if STORAGE
  if (n % 4 == 0 && aligned4(gate_up) && aligned4(dy) && aligned4(d)) {
    for (size_t i = (size_t)blockIdx.x * 1024 + 4 * threadIdx.x; i < elements; i += (size_t)gridDim.x * 1024) {
      size_t at = i + (size_t)((unsigned)i / n) * n;
      float4 g = load4(gate_up + at), u = load4(gate_up + at + n), v = load4(dy + i);
      float2 x = swiglu_gradient(g.x, u.x, v.x), y = swiglu_gradient(g.y, u.y, v.y);
      float2 z = swiglu_gradient(g.z, u.z, v.z), w = swiglu_gradient(g.w, u.w, v.w);
      store4(d + at, make_float4(x.x, y.x, z.x, w.x));
      store4(d + at + n, make_float4(x.y, y.y, z.y, w.y));
    }
    return;
  }
#endif
  for (size_t from = (size_t)blockIdx.x * 1024; from < elements; from += (size_t)gridDim.x * 1024) {
    float g[4], u[4], v[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      size_t at = i + (size_t)((unsigned)i / n) * n;
      g[k] = i < elements ? gate_up[at] : 0.0f;
      u[k] = i < elements ? gate_up[at + n] : 0.0f;
      v[k] = i < elements ? dy[i] : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * 256 + threadIdx.x;
      if (i >= elements) continue;
      size_t at = i + (size_t)((unsigned)i / n) * n;
      float2 gradient = swiglu_gradient(g[k], u[k], v[k]);
      d[at] = gradient.x;
      d[at + n] = gradient.y;
    }
  }
}

extern "C" __global__ void swiglu(const Stored* gate_up, Stored* y, unsigned elements, unsigned n) {
  swiglu_body(gate_up, y, elements, n);
}

extern "C" __global__ void swiglu_backward(const Stored* gate_up, const Stored* dy, Stored* d,
                                           unsigned elements, unsigned n) {
  swiglu_backward_body(gate_up, dy, d, elements, n);
}
