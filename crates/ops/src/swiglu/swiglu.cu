// y = silu(g) u over rows of g and then u, and its gradient; four elements a thread, a group's width apart.
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ void swiglu_body(const float* gate_up, float* y, unsigned elements, unsigned n) {
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
      if (i < elements) y[i] = g[k] * sigmoid(g[k]) * u[k];
    }
  }
}

// d may be gate_up.
__device__ __forceinline__ void swiglu_backward_body(const float* gate_up, const float* dy, float* d, unsigned elements,
                                                     unsigned n) {
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
      float s = sigmoid(g[k]);
      d[at] = v[k] * u[k] * s * (1.0f + g[k] * (1.0f - s));
      d[at + n] = v[k] * g[k] * s;
    }
  }
}

extern "C" __global__ void swiglu(const float* gate_up, float* y, unsigned elements, unsigned n) {
  swiglu_body(gate_up, y, elements, n);
}

extern "C" __global__ void swiglu_backward(const float* gate_up, const float* dy, float* d, unsigned elements,
                                           unsigned n) {
  swiglu_backward_body(gate_up, dy, d, elements, n);
}
