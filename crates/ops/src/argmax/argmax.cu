// y[i] = the smallest j whose x[i, j] is largest. A block a row: each thread takes every 256th column, then a tree.
__device__ __forceinline__ void argmax_body(const Stored* x, unsigned* y, unsigned rows, unsigned n) {
  __shared__ float best[256];
  __shared__ unsigned at[256];
  unsigned t = threadIdx.x;
  for (unsigned row = blockIdx.x; row < rows; row += gridDim.x) {
    float mine = -__int_as_float(0x7f800000);
    unsigned column = 0xffffffffu;
    for (unsigned j = t; j < n; j += 256) {
      float value = x[(size_t)row * n + j];
      if (value > mine) mine = value, column = j;
    }
    best[t] = mine, at[t] = column;
    __syncthreads();
    for (unsigned half = 128; half > 0; half /= 2) {
      if (t < half && (best[t + half] > best[t] || (best[t + half] == best[t] && at[t + half] < at[t])))
        best[t] = best[t + half], at[t] = at[t + half];
      __syncthreads();
    }
    if (t == 0) y[row] = at[0] == 0xffffffffu ? 0 : at[0];
    __syncthreads();
  }
}

extern "C" __global__ void argmax(const Stored* x, unsigned* y, unsigned rows, unsigned n) {
  argmax_body(x, y, rows, n);
}
