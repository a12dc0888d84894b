// y[block, j] = sum of the rows of x in block `blockIdx.y`, in order. One column a thread.
__device__ __forceinline__ void sum_rows_body(const float* x, float* y, unsigned rows, unsigned columns,
                                              unsigned block_rows) {
  unsigned j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= columns) return;
  unsigned from = blockIdx.y * block_rows;
  unsigned to = min(rows, from + block_rows);
  float sum = 0.0f;
#pragma unroll 8
  for (unsigned i = from; i < to; i++) sum += x[(size_t)i * columns + j];
  y[(size_t)blockIdx.y * columns + j] = sum;
}

extern "C" __global__ void sum_rows(const float* x, float* y, unsigned rows, unsigned columns, unsigned block_rows) {
  sum_rows_body(x, y, rows, columns, block_rows);
}
