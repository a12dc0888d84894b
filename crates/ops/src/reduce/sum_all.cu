// y[group] = the sum of the group's chunk of x: each thread adds every 256th element, then the threads' sums are added.
__device__ __forceinline__ void sum_all_body(const Stored* x, Result* y, unsigned elements, unsigned chunk) {
  unsigned from = blockIdx.x * chunk, to = min(elements, from + chunk);
  float sum = 0.0f;
#pragma unroll 8
  for (unsigned i = from + threadIdx.x; i < to; i += blockDim.x) sum += x[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}

extern "C" __global__ void sum_all(const Stored* x, Result* y, unsigned elements, unsigned chunk) {
  sum_all_body(x, y, elements, chunk);
}
