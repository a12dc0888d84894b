// Adam over flat memory: parameters and moments may be updated in place, so every element is read before it is written.

// 1 - e^x for x <= 0, without losing digits near 0.
__device__ __forceinline__ float correction(float x) {
  if (x <= -0.25f) return 1.0f - expf(x);
  float p = 1.0f / 5040.0f;
  p = p * x + 1.0f / 720.0f;
  p = p * x + 1.0f / 120.0f;
  p = p * x + 1.0f / 24.0f;
  p = p * x + 1.0f / 6.0f;
  p = p * x + 0.5f;
  p = p * x + 1.0f;
  return -(p * x);
}

__device__ __forceinline__ void adam_body(const float* parameters, const float* gradients, const float* old_m,
                                          const float* old_v, const float* lr, const unsigned* applied,
                                          const float* norm, const unsigned* finite, float* new_parameters,
                                          float* new_m, float* new_v, unsigned elements, float one_minus_beta1,
                                          float ln_beta1, float beta2, float one_minus_beta2, float ln_beta2, float eps,
                                          float decay, unsigned decoupled, float max_norm) {
  bool apply = *finite != 0;
  float rate = *lr, steps = (float)*applied;
  float clip = max_norm > 0.0f ? fminf(max_norm / (*norm + 1e-6f), 1.0f) : 1.0f;
#if SCALED
  clip /= norm[1];
#endif
  float step = rate / correction(steps * ln_beta1);
  float scale = 1.0f / sqrtf(correction(steps * ln_beta2));
  float keep = decoupled ? 1.0f - rate * decay : 1.0f;
  if (decoupled) decay = 0.0f;
  // Four elements a thread at a time, each load a whole line of the warp's.
  size_t stride = (size_t)gridDim.x * blockDim.x * 4;
  for (size_t from = (size_t)blockIdx.x * blockDim.x * 4 + threadIdx.x; from < elements; from += stride) {
    float p[4], g[4], m[4], v[4];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * blockDim.x;
      bool inside = i < elements;
      p[k] = inside ? parameters[i] : 0.0f;
      g[k] = inside ? gradients[i] : 0.0f;
      m[k] = inside ? old_m[i] : 0.0f;
      v[k] = inside ? old_v[i] : 0.0f;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      size_t i = from + k * blockDim.x;
      if (i >= elements) break;
      if (apply) {
        float gradient = g[k] * clip + decay * p[k];
        m[k] += one_minus_beta1 * (gradient - m[k]);
        v[k] = beta2 * v[k] + one_minus_beta2 * gradient * gradient;
        p[k] = p[k] * keep - step * (m[k] / (sqrtf(v[k]) * scale + eps));
      }
      new_parameters[i] = p[k];
      new_m[i] = m[k];
      new_v[i] = v[k];
    }
  }
}

extern "C" __global__ void adam(const float* parameters, const float* gradients, const float* m, const float* v,
                                const float* lr, const unsigned* applied, const float* norm, const unsigned* finite,
                                float* new_parameters, float* new_m, float* new_v, unsigned elements,
                                float one_minus_beta1, float ln_beta1, float beta2, float one_minus_beta2,
                                float ln_beta2, float eps, float decay, unsigned decoupled, float max_norm) {
  adam_body(parameters, gradients, m, v, lr, applied, norm, finite, new_parameters, new_m, new_v, elements,
            one_minus_beta1, ln_beta1, beta2, one_minus_beta2, ln_beta2, eps, decay, decoupled, max_norm);
}

extern "C" __global__ void advance(const unsigned* applied, const unsigned* finite, unsigned* y) {
  if (threadIdx.x == 0) *y = *applied + *finite;
}
