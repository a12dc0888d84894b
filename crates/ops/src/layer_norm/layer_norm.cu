// Layer norm, one row a group, and its gradient. With RESIDUAL the forward row is s = x + r, and d is added to dx. With
// RMS it is RMS norm: nothing is subtracted, so there are no means, and there is no bias.

#ifdef RMS
#define MEAN(value) 0.0f
#else
#define MEAN(value) (value)
#endif

// Columns j to j + 3 of a row; columns from n on are 0.
__device__ __forceinline__ float4 load_columns(const Stored* row, unsigned j, unsigned n, bool wide) {
  if (wide) return load4(row + j);
  float4 v;
  v.x = row[j];
  v.y = j + 1 < n ? row[j + 1] : 0.0f;
  v.z = j + 2 < n ? row[j + 2] : 0.0f;
  v.w = j + 3 < n ? row[j + 3] : 0.0f;
  return v;
}

__device__ __forceinline__ void store_columns(Stored* row, unsigned j, unsigned n, bool wide, float4 v) {
  if (wide) return store4(row + j, v);
  row[j] = v.x;
  if (j + 1 < n) row[j + 1] = v.y;
  if (j + 2 < n) row[j + 2] = v.z;
  if (j + 3 < n) row[j + 3] = v.w;
}

// x and s may be one memory, and r and s.
__device__ __forceinline__ void layer_norm_body(const Stored* x, const Stored* r, const Stored* weight,
                                                const Stored* bias, Stored* s, Stored* y, float* means, float* rstds,
                                                unsigned rows, unsigned n, float eps) {
  bool wide = n % 4 == 0 && aligned4(x) && aligned4(r) && aligned4(weight) && aligned4(bias) && aligned4(s) &&
              aligned4(y);
  unsigned first = 4 * threadIdx.x, step = 4 * blockDim.x;
  for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
    size_t at = (size_t)row * n;
    const Stored* from = x + at;
    float total = 0.0f;
    for (unsigned j = first; j < n; j += step) {
      float4 v = load_columns(from, j, n, wide);
      if (r) {
        float4 w = load_columns(r + at, j, n, wide);
        v.x = rounded<Stored>(v.x + w.x), v.y = rounded<Stored>(v.y + w.y);
        v.z = rounded<Stored>(v.z + w.z), v.w = rounded<Stored>(v.w + w.w);
        store_columns(s + at, j, n, wide, v);
      }
      total += (v.x + v.y) + (v.z + v.w);
    }
    // Each thread reads back what it wrote itself.
    if (r) from = s + at;
    float mean = MEAN(block_sum(total) / (float)n);
    total = 0.0f;
    for (unsigned j = first; j < n; j += step) {
      float4 v = load_columns(from, j, n, wide);
      float a = v.x - mean, b = j + 1 < n ? v.y - mean : 0.0f;
      float c = j + 2 < n ? v.z - mean : 0.0f, d = j + 3 < n ? v.w - mean : 0.0f;
      total += (a * a + b * b) + (c * c + d * d);
    }
    float rstd = 1.0f / sqrtf(block_sum(total) / (float)n + eps);
    for (unsigned j = first; j < n; j += step) {
      float4 v = load_columns(from, j, n, wide), w = load_columns(weight, j, n, wide);
#ifdef RMS
      v.x = v.x * rstd * w.x;
      v.y = v.y * rstd * w.y;
      v.z = v.z * rstd * w.z;
      v.w = v.w * rstd * w.w;
#else
      float4 b = load_columns(bias, j, n, wide);
      v.x = (v.x - mean) * rstd * w.x + b.x;
      v.y = (v.y - mean) * rstd * w.y + b.y;
      v.z = (v.z - mean) * rstd * w.z + b.z;
      v.w = (v.w - mean) * rstd * w.w + b.w;
#endif
      store_columns(y + at, j, n, wide, v);
    }
    if (threadIdx.x == 0) {
      if (means) means[row] = mean;
      rstds[row] = rstd;
    }
  }
}

// dx may be dy, or d.
__device__ __forceinline__ void layer_norm_backward_body(const Stored* x, const Stored* weight, const float* means,
                                                         const float* rstds, const Stored* dy, const Stored* d,
                                                         Stored* dx, unsigned rows, unsigned n) {
  bool wide = n % 4 == 0 && aligned4(x) && aligned4(weight) && aligned4(dy) && aligned4(d) && aligned4(dx);
  unsigned first = 4 * threadIdx.x, step = 4 * blockDim.x;
  for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
    size_t at = (size_t)row * n;
    float mean = MEAN(means[row]), rstd = rstds[row], sum_g = 0.0f, sum_gx = 0.0f;
    for (unsigned j = first; j < n; j += step) {
      float4 v = load_columns(x + at, j, n, wide), w = load_columns(weight, j, n, wide);
      float4 g = load_columns(dy + at, j, n, wide);
      g.x *= w.x, g.y *= w.y, g.z *= w.z, g.w *= w.w;
      sum_g += (g.x + g.y) + (g.z + g.w);
      sum_gx += (g.x * (v.x - mean) + g.y * (v.y - mean)) + (g.z * (v.z - mean) + g.w * (v.w - mean));
    }
    float mean_g = MEAN(block_sum(sum_g) / (float)n);
    float mean_gx = block_sum(sum_gx) * (rstd * rstd) / (float)n;
    for (unsigned j = first; j < n; j += step) {
      float4 v = load_columns(x + at, j, n, wide), w = load_columns(weight, j, n, wide);
      float4 g = load_columns(dy + at, j, n, wide);
      v.x = rstd * (g.x * w.x - mean_g - (v.x - mean) * mean_gx);
      v.y = rstd * (g.y * w.y - mean_g - (v.y - mean) * mean_gx);
      v.z = rstd * (g.z * w.z - mean_g - (v.z - mean) * mean_gx);
      v.w = rstd * (g.w * w.w - mean_g - (v.w - mean) * mean_gx);
      if (d) {
        float4 more = load_columns(d + at, j, n, wide);
        v.x += more.x, v.y += more.y, v.z += more.z, v.w += more.w;
      }
      store_columns(dx + at, j, n, wide, v);
    }
  }
}

// A block's sums of dy xhat and dy over 64 rows, for 32 columns: 8 threads a column take every eighth row, then are added
// in order.
__device__ __forceinline__ void layer_norm_weights_body(const Stored* x, const float* means, const float* rstds,
                                                        const Stored* dy, Result* dweight, Result* dbias, unsigned rows,
                                                        unsigned n) {
  __shared__ float parts[2][8][32];
  unsigned column = threadIdx.x & 31, lane = threadIdx.x >> 5, j = blockIdx.x * 32 + column;
  float sum_weight = 0.0f, sum_bias = 0.0f;
#pragma unroll
  for (unsigned k = 0; k < 8; k++) {
    unsigned row = blockIdx.y * 64 + k * 8 + lane;
    if (row < rows && j < n) {
      size_t at = (size_t)row * n + j;
      float g = dy[at];
      sum_bias += g;
      sum_weight += g * ((x[at] - MEAN(means[row])) * rstds[row]);
    }
  }
  parts[0][lane][column] = sum_weight;
  parts[1][lane][column] = sum_bias;
  __syncthreads();
  if (lane < (dbias ? 2 : 1) && j < n) {
    float sum = 0.0f;
#pragma unroll
    for (unsigned k = 0; k < 8; k++) sum += parts[lane][k][column];
    (lane == 0 ? dweight : dbias)[(size_t)blockIdx.y * n + j] = sum;
  }
}

#if defined(RMS) && defined(RESIDUAL)
extern "C" __global__ void residual_rms_norm(const Stored* x, const Stored* r, const Stored* weight, Stored* s,
                                             Stored* y, float* rstd, unsigned rows, unsigned n, float eps) {
  layer_norm_body(x, r, weight, nullptr, s, y, nullptr, rstd, rows, n, eps);
}

extern "C" __global__ void rms_norm_backward_residual(const Stored* x, const Stored* weight, const float* rstd,
                                                      const Stored* dy, const Stored* d, Stored* dx, unsigned rows,
                                                      unsigned n) {
  layer_norm_backward_body(x, weight, nullptr, rstd, dy, d, dx, rows, n);
}
#elif defined(RMS)
extern "C" __global__ void rms_norm(const Stored* x, const Stored* weight, Stored* y, float* rstd, unsigned rows,
                                    unsigned n, float eps) {
  layer_norm_body(x, nullptr, weight, nullptr, nullptr, y, nullptr, rstd, rows, n, eps);
}

extern "C" __global__ void rms_norm_backward(const Stored* x, const Stored* weight, const float* rstd, const Stored* dy,
                                             Stored* dx, unsigned rows, unsigned n) {
  layer_norm_backward_body(x, weight, nullptr, rstd, dy, nullptr, dx, rows, n);
}

extern "C" __global__ void rms_norm_weights(const Stored* x, const float* rstd, const Stored* dy, Result* dweight,
                                            unsigned rows, unsigned n) {
  layer_norm_weights_body(x, nullptr, rstd, dy, dweight, nullptr, rows, n);
}
#elif defined(RESIDUAL)
extern "C" __global__ void residual_layer_norm(const Stored* x, const Stored* r, const Stored* weight,
                                               const Stored* bias, Stored* s, Stored* y, float* mean, float* rstd,
                                               unsigned rows, unsigned n, float eps) {
  layer_norm_body(x, r, weight, bias, s, y, mean, rstd, rows, n, eps);
}

extern "C" __global__ void layer_norm_backward_residual(const Stored* x, const Stored* weight, const float* mean,
                                                        const float* rstd, const Stored* dy, const Stored* d,
                                                        Stored* dx, unsigned rows, unsigned n) {
  layer_norm_backward_body(x, weight, mean, rstd, dy, d, dx, rows, n);
}
#else
extern "C" __global__ void layer_norm(const Stored* x, const Stored* weight, const Stored* bias, Stored* y, float* mean,
                                      float* rstd, unsigned rows, unsigned n, float eps) {
  layer_norm_body(x, nullptr, weight, bias, nullptr, y, mean, rstd, rows, n, eps);
}

extern "C" __global__ void layer_norm_backward(const Stored* x, const Stored* weight, const float* mean,
                                               const float* rstd, const Stored* dy, Stored* dx, unsigned rows,
                                               unsigned n) {
  layer_norm_backward_body(x, weight, mean, rstd, dy, nullptr, dx, rows, n);
}

extern "C" __global__ void layer_norm_weights(const Stored* x, const float* mean, const float* rstd, const Stored* dy,
                                              Result* dweight, Result* dbias, unsigned rows, unsigned n) {
  layer_norm_weights_body(x, mean, rstd, dy, dweight, dbias, rows, n);
}
#endif
