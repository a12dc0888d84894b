// The gradient norm: each chunk's sum of squares and the end of what isn't finite in it (0: all is), then one total.

// Greatest of the block, in thread 0.
__device__ __forceinline__ unsigned block_greatest(unsigned v) {
  __shared__ unsigned parts[32];
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = max(v, __shfl_xor_sync(FULL_WARP, v, offset));
  if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = v;
  __syncthreads();
  for (unsigned i = 0; i < blockDim.x >> 5; i++) v = max(v, parts[i]);
  return v;
}

// 4096 elements a group of 256.
__device__ __forceinline__ void grad_norm_chunks_body(const float* g, float* sums, unsigned* ends,
                                                      unsigned elements) {
  float sum = 0.0f;
  unsigned end = 0;
  size_t from = (size_t)blockIdx.x * 4096 + threadIdx.x;
#pragma unroll
  for (unsigned k = 0; k < 16; k++) {
    size_t i = from + k * 256;
    float x = i < elements ? g[i] : 0.0f;
    sum += x * x;
    if ((__float_as_uint(x) & 0x7fffffffu) >= 0x7f800000u) end = max(end, (unsigned)i + 1);
  }
  sum = block_sum(sum);
  end = block_greatest(end);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
    ends[blockIdx.x] = end;
  }
}

extern "C" __global__ void grad_norm_chunks(const float* g, float* sums, unsigned* ends, unsigned elements) {
  grad_norm_chunks_body(g, sums, ends, elements);
}

// One group of 256: each thread adds every 256th sum, then the threads' sums are added.
__device__ __forceinline__ void grad_norm_total_body(const float* sums, const unsigned* ends, float* norm,
                                                     unsigned* finite, unsigned* place, unsigned chunks) {
  float sum = 0.0f;
  unsigned end = 0;
#pragma unroll 4
  for (unsigned i = threadIdx.x; i < chunks; i += blockDim.x) {
    sum += sums[i];
    end = max(end, ends[i]);
  }
  sum = block_sum(sum);
  end = block_greatest(end);
  if (threadIdx.x == 0) {
    *norm = sqrtf(sum);
    *finite = end == 0;
    *place = end - 1;
  }
}

extern "C" __global__ void grad_norm_total(const float* sums, const unsigned* ends, float* norm,
                                           unsigned* finite, unsigned* place, unsigned chunks) {
  grad_norm_total_body(sums, ends, norm, finite, place, chunks);
}
