// y[block, j] = sum of the rows of x in block `blockIdx.y`, for 32 columns a group: 8 threads a column take every eighth
// row, then are added in order.
__device__ __forceinline__ void sum_rows_body(const Stored* x, Result* y, unsigned rows, unsigned columns,
                                              unsigned block_rows) {
  __shared__ float parts[8][32];
  unsigned column = threadIdx.x & 31, lane = threadIdx.x >> 5, j = blockIdx.x * 32 + column;
  unsigned from = blockIdx.y * block_rows, to = min(rows, from + block_rows);
  float sum = 0.0f;
  if (j < columns) {
#pragma unroll 8
    for (unsigned i = from + lane; i < to; i += 8) sum += x[(size_t)i * columns + j];
  }
  parts[lane][column] = sum;
  __syncthreads();
  if (lane == 0 && j < columns) {
#pragma unroll
    for (unsigned k = 1; k < 8; k++) sum += parts[k][column];
    y[(size_t)blockIdx.y * columns + j] = sum;
  }
}

extern "C" __global__ void sum_rows(const Stored* x, Result* y, unsigned rows, unsigned columns, unsigned block_rows) {
  sum_rows_body(x, y, rows, columns, block_rows);
}
