// Rows of a table by id, and the gradient of the table.

// One token a group; NaNs where the id isn't in the table.
__device__ __forceinline__ void embed_body(const unsigned* ids, const float* table, float* y, unsigned tokens,
                                           unsigned n, unsigned vocab) {
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    unsigned id = ids[token];
    float* to = y + (size_t)token * n;
    const float* from = table + (size_t)id * n;
#pragma unroll 4
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x) to[j] = id < vocab ? from[j] : __int_as_float(0x7fc00000);
  }
}

// One row of the table a group of 256: it reads 256 ids at a time and adds the rows of dy with its own, in order.
__device__ __forceinline__ void embed_backward_body(const unsigned* ids, const float* dy, float* dtable,
                                                    unsigned tokens, unsigned n, unsigned vocab) {
  __shared__ unsigned found[8];
  unsigned thread = threadIdx.x;
  for (unsigned row = blockIdx.x; row < vocab; row += gridDim.x) {
    float* sums = dtable + (size_t)row * n;
    for (unsigned j = thread; j < n; j += blockDim.x) sums[j] = 0.0f;
    for (unsigned from = 0; from < tokens; from += 256) {
      bool mine = from + thread < tokens && ids[from + thread] == row;
      // Also the barrier that lets `found` be written again.
      if (!__syncthreads_or(mine)) continue;
      unsigned lanes = __ballot_sync(FULL_WARP, mine);
      if ((thread & 31) == 0) found[thread >> 5] = lanes;
      __syncthreads();
      for (unsigned j = thread; j < n; j += blockDim.x) {
        float sum = sums[j];
        for (unsigned warp = 0; warp < 8; warp++) {
          for (unsigned left = found[warp]; left != 0; left &= left - 1) {
            sum += dy[(size_t)(from + warp * 32 + __ffs(left) - 1) * n + j];
          }
        }
        sums[j] = sum;
      }
    }
  }
}

extern "C" __global__ void embed(const unsigned* ids, const float* table, float* y, unsigned tokens, unsigned n,
                                 unsigned vocab) {
  embed_body(ids, table, y, tokens, n, vocab);
}

extern "C" __global__ void embed_backward(const unsigned* ids, const float* dy, float* dtable, unsigned tokens,
                                          unsigned n, unsigned vocab) {
  embed_backward_body(ids, dy, dtable, tokens, n, vocab);
}
