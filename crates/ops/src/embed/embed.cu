// Rows of a table by id, and the gradient of the table.

// One token a group; NaNs where the id isn't in the table.
__device__ __forceinline__ void embed_body(const unsigned* ids, const Stored* table, Stored* y, unsigned tokens,
                                           unsigned n, unsigned vocab) {
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    unsigned id = ids[token];
    Stored* to = y + (size_t)token * n;
    const Stored* from = table + (size_t)id * n;
#if STORAGE
    if (n % 4 == 0 && aligned4(table) && aligned4(y)) {
      for (unsigned j = 4 * threadIdx.x; j < n; j += 4 * blockDim.x) {
        store4(to + j, id < vocab ? load4(from + j) : make_float4(NAN_, NAN_, NAN_, NAN_));
      }
      continue;
    }
#endif
#pragma unroll 4
    for (unsigned j = threadIdx.x; j < n; j += blockDim.x) to[j] = id < vocab ? from[j] : NAN_;
  }
}

// One row of the table a group of 256, at most 2048 columns at a time: it reads 256 ids at a time and adds the rows of dy
// with its own, in order.
__device__ __forceinline__ void embed_backward_body(const unsigned* ids, const Stored* dy, Stored* dtable,
                                                    unsigned tokens, unsigned n, unsigned vocab) {
  __shared__ unsigned found[8];
  unsigned thread = threadIdx.x;
  for (unsigned row = blockIdx.x; row < vocab; row += gridDim.x) {
    for (unsigned first = thread; first - thread < n; first += 2048) {
      float sums[8] = {};
      for (unsigned from = 0; from < tokens; from += 256) {
        bool mine = from + thread < tokens && ids[from + thread] == row;
        // Also the barrier that lets `found` be written again.
        if (!__syncthreads_or(mine)) continue;
        unsigned lanes = __ballot_sync(FULL_WARP, mine);
        if ((thread & 31) == 0) found[thread >> 5] = lanes;
        __syncthreads();
        for (unsigned warp = 0; warp < 8; warp++) {
          for (unsigned left = found[warp]; left != 0; left &= left - 1) {
            const Stored* more = dy + (size_t)(from + warp * 32 + __ffs(left) - 1) * n;
#pragma unroll
            for (unsigned k = 0; k < 8; k++) {
              if (first + k * 256 < n) sums[k] += more[first + k * 256];
            }
          }
        }
      }
#pragma unroll
      for (unsigned k = 0; k < 8; k++) {
        if (first + k * 256 < n) dtable[(size_t)row * n + first + k * 256] = sums[k];
      }
    }
  }
}

extern "C" __global__ void embed(const unsigned* ids, const Stored* table, Stored* y, unsigned tokens, unsigned n,
                                 unsigned vocab) {
  embed_body(ids, table, y, tokens, n, vocab);
}

extern "C" __global__ void embed_backward(const unsigned* ids, const Stored* dy, Stored* dtable, unsigned tokens,
                                          unsigned n, unsigned vocab) {
  embed_backward_body(ids, dy, dtable, tokens, n, vocab);
}
