// d = [c +] op(a) op(b): a group of 256 threads computes a 64 x 64 tile of one piece of the sum.
__device__ __forceinline__ float matmul_a(const float* a, unsigned i, unsigned p, unsigned m, unsigned k) {
  return TRANSPOSE_A ? a[(size_t)p * m + i] : a[(size_t)i * k + p];
}
__device__ __forceinline__ float matmul_b(const float* b, unsigned p, unsigned j, unsigned n, unsigned k) {
  return TRANSPOSE_B ? b[(size_t)j * k + p] : b[(size_t)p * n + j];
}

__device__ __forceinline__ void matmul_body(const float* a, const float* b, const float* c, float* d, unsigned m,
                                            unsigned n, unsigned k, unsigned splits, unsigned piece, unsigned row) {
  __shared__ float tile_a[16][65];
  __shared__ float tile_b[16][65];
  unsigned product = blockIdx.z / splits, split = blockIdx.z % splits;
  unsigned batch = gridDim.z / splits;
  unsigned i0 = blockIdx.y * 64, j0 = blockIdx.x * 64;
  unsigned ti = threadIdx.x / 16, tj = threadIdx.x % 16;
  a += (size_t)product * m * k;
  b += (size_t)product * k * n;
  float sum[4][4] = {};
  unsigned end = min(k, (split + 1) * piece);
  for (unsigned p0 = split * piece; p0 < end; p0 += 16) {
    for (unsigned e = threadIdx.x; e < 1024; e += 256) {
      unsigned p = TRANSPOSE_A ? e / 64 : e % 16, i = TRANSPOSE_A ? e % 64 : e / 16;
      tile_a[p][i] = p0 + p < end && i0 + i < m ? matmul_a(a, i0 + i, p0 + p, m, k) : 0.0f;
      unsigned q = TRANSPOSE_B ? e % 16 : e / 64, j = TRANSPOSE_B ? e / 16 : e % 64;
      tile_b[q][j] = p0 + q < end && j0 + j < n ? matmul_b(b, p0 + q, j0 + j, n, k) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (unsigned p = 0; p < 16; p++)
#pragma unroll
      for (unsigned x = 0; x < 4; x++)
#pragma unroll
        for (unsigned y = 0; y < 4; y++) sum[x][y] += tile_a[p][ti + 16 * x] * tile_b[p][tj + 16 * y];
    __syncthreads();
  }
  d += ((size_t)split * batch + product) * m * n;
  if (c && !row) c += (size_t)product * m * n;
  for (unsigned x = 0; x < 4; x++)
    for (unsigned y = 0; y < 4; y++) {
      unsigned i = i0 + ti + 16 * x, j = j0 + tj + 16 * y;
      if (i >= m || j >= n) continue;
      float before = c ? (row ? c[j] : c[(size_t)i * n + j]) : 0.0f;
      d[(size_t)i * n + j] = before + sum[x][y];
    }
}

__device__ __forceinline__ void matmul_reduce_body(const float* partial, const float* c, float* d, unsigned elements,
                                                   unsigned n, unsigned splits, unsigned row) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= elements) return;
  float sum = 0.0f;
  for (unsigned s = 0; s < splits; s++) sum += partial[(size_t)s * elements + i];
  d[i] = c ? c[row ? i % n : i] + sum : sum;
}

#if HAS_C
extern "C" __global__ void matmul(const float* a, const float* b, const float* c, float* d, unsigned m, unsigned n,
                                  unsigned k, unsigned splits, unsigned piece, unsigned row) {
  matmul_body(a, b, c, d, m, n, k, splits, piece, row);
}
extern "C" __global__ void matmul_reduce(const float* partial, const float* c, float* d, unsigned elements, unsigned n,
                                         unsigned splits, unsigned row) {
  matmul_reduce_body(partial, c, d, elements, n, splits, row);
}
#else
extern "C" __global__ void matmul(const float* a, const float* b, float* d, unsigned m, unsigned n, unsigned k,
                                  unsigned splits, unsigned piece, unsigned row) {
  matmul_body(a, b, nullptr, d, m, n, k, splits, piece, row);
}
extern "C" __global__ void matmul_reduce(const float* partial, float* d, unsigned elements, unsigned n,
                                         unsigned splits, unsigned row) {
  matmul_reduce_body(partial, nullptr, d, elements, n, splits, row);
}
#endif
