// The product where TILE is defined, else the sum of a cut product's pieces.
#ifdef TILE

// d = [c +] op(a) op(b): a group of 256 threads computes a TILE x TILE tile of one piece of the sum; the terms are added
// one by one in order, whatever the tile. A thread has MICRO x MICRO elements, in runs of RUN.
#define DEPTH (1024 / TILE)
#define MICRO (TILE / 16)
#define RUN (MICRO < 4 ? MICRO : 4)
#define PITCH (TILE + 4)

// Four elements from `at` on, of which `valid` are there; zeros for the rest.
__device__ __forceinline__ float4 matmul_load(const Stored* at, int valid) {
  if (valid >= 4 && ((size_t)at & (4 * sizeof(*at) - 1)) == 0) return load4(at);
  float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
  if (valid > 0) v.x = at[0];
  if (valid > 1) v.y = at[1];
  if (valid > 2) v.z = at[2];
  if (valid > 3) v.w = at[3];
  return v;
}

// This thread's share of the next DEPTH x TILE block of an operand stored [sum, outer] (`across`) or [outer, sum].
template <bool across>
__device__ __forceinline__ float4 matmul_fetch(const Stored* from, unsigned outer0, unsigned outers, unsigned p0,
                                               unsigned end, unsigned k) {
  unsigned t = threadIdx.x;
  if (across) {
    unsigned p = p0 + t / (TILE / 4), o = outer0 + t % (TILE / 4) * 4;
    return matmul_load(from + (size_t)p * outers + o, p < end ? (int)outers - (int)o : 0);
  }
  unsigned o = outer0 + t / (DEPTH / 4), p = p0 + t % (DEPTH / 4) * 4;
  return matmul_load(from + (size_t)o * k + p, o < outers ? (int)end - (int)p : 0);
}

// Puts that share where the products are made from: [sum][outer].
template <bool across>
__device__ __forceinline__ void matmul_keep(float (*tile)[PITCH], float4 v) {
  unsigned t = threadIdx.x;
  if (across) {
    *(float4*)&tile[t / (TILE / 4)][t % (TILE / 4) * 4] = v;
  } else {
    unsigned o = t / (DEPTH / 4), p = t % (DEPTH / 4) * 4;
    tile[p][o] = v.x;
    tile[p + 1][o] = v.y;
    tile[p + 2][o] = v.z;
    tile[p + 3][o] = v.w;
  }
}

// Place in the tile of element x of thread t of 16.
__device__ __forceinline__ unsigned matmul_place(unsigned t, unsigned x) {
  return x / RUN * (16 * RUN) + t * RUN + x % RUN;
}

__device__ __forceinline__ void matmul_row(float* out, const float* row, unsigned t) {
#pragma unroll
  for (unsigned x = 0; x < MICRO; x += RUN) {
    const float* at = row + matmul_place(t, x);
    if (RUN == 4) {
      *(float4*)(out + x) = *(const float4*)at;
    } else {
      *(float2*)(out + x) = *(const float2*)at;
    }
  }
}

// RUN elements of d, of which `valid` are there: [c +] sum. d may lie in c's memory: this thread alone reads and writes them.
__device__ __forceinline__ void matmul_store(Result* d, const Stored* c, const float* sum, int valid) {
  if (RUN == 4 && valid >= 4 && (((size_t)d | (size_t)c) & (4 * sizeof(*d) - 1)) == 0) {
    float4 v = {sum[0], sum[1], sum[2], sum[3]};
    if (c) {
      float4 before = load4(c);
      v.x = before.x + v.x;
      v.y = before.y + v.y;
      v.z = before.z + v.z;
      v.w = before.w + v.w;
    }
    return store4(d, v);
  }
#pragma unroll
  for (int q = 0; q < RUN; q++) {
    if (q < valid) d[q] = (c ? c[q] : 0.0f) + sum[q];
  }
}

__device__ __forceinline__ void matmul_body(const Stored* __restrict__ a, const Stored* __restrict__ b, const Stored* c,
                                            Result* d, unsigned m, unsigned n, unsigned k, unsigned splits,
                                            unsigned piece, unsigned row) {
  alignas(16) __shared__ float tile_a[2][DEPTH][PITCH];
  alignas(16) __shared__ float tile_b[2][DEPTH][PITCH];
  unsigned product = blockIdx.z / splits, split = blockIdx.z % splits;
  unsigned batch = gridDim.z / splits;
  unsigned i0 = blockIdx.y * TILE, j0 = blockIdx.x * TILE;
  unsigned ti = threadIdx.x / 16, tj = threadIdx.x % 16;
  a += (size_t)product * m * k;
  b += (size_t)product * k * n;
  float sum[MICRO][MICRO] = {};
  unsigned p0 = split * piece, end = min(k, p0 + piece);
  matmul_keep<TRANSPOSE_A>(tile_a[0], matmul_fetch<TRANSPOSE_A>(a, i0, m, p0, end, k));
  matmul_keep<!TRANSPOSE_B>(tile_b[0], matmul_fetch<!TRANSPOSE_B>(b, j0, n, p0, end, k));
  __syncthreads();
  for (unsigned now = 0; p0 < end; p0 += DEPTH, now ^= 1) {
    // The next block travels while this one is used.
    bool more = p0 + DEPTH < end;
    float4 next_a, next_b;
    if (more) {
      next_a = matmul_fetch<TRANSPOSE_A>(a, i0, m, p0 + DEPTH, end, k);
      next_b = matmul_fetch<!TRANSPOSE_B>(b, j0, n, p0 + DEPTH, end, k);
    }
#pragma unroll
    for (unsigned p = 0; p < DEPTH; p++) {
      alignas(16) float left[MICRO], right[MICRO];
      matmul_row(left, tile_a[now][p], ti);
      matmul_row(right, tile_b[now][p], tj);
#pragma unroll
      for (unsigned x = 0; x < MICRO; x++)
#pragma unroll
        for (unsigned y = 0; y < MICRO; y++) sum[x][y] = fmaf(left[x], right[y], sum[x][y]);
    }
    if (more) {
      matmul_keep<TRANSPOSE_A>(tile_a[now ^ 1], next_a);
      matmul_keep<!TRANSPOSE_B>(tile_b[now ^ 1], next_b);
    }
    __syncthreads();
  }
  d += ((size_t)split * batch + product) * m * n;
  if (c && !row) c += (size_t)product * m * n;
#pragma unroll
  for (unsigned x = 0; x < MICRO; x++) {
    unsigned i = i0 + matmul_place(ti, x);
#pragma unroll
    for (unsigned y = 0; y < MICRO; y += RUN) {
      unsigned j = j0 + matmul_place(tj, y);
      size_t at = (size_t)i * n + j;
      if (i < m) matmul_store(d + at, c ? c + (row ? j : at) : nullptr, &sum[x][y], (int)n - (int)j);
    }
  }
}

#if HAS_C
extern "C" __global__ void __launch_bounds__(256, TILE == 128 ? 2 : 3)
    matmul(const Stored* a, const Stored* b, const Stored* c, Result* d, unsigned m, unsigned n, unsigned k,
           unsigned splits, unsigned piece, unsigned row) {
  matmul_body(a, b, c, d, m, n, k, splits, piece, row);
}
#else
extern "C" __global__ void __launch_bounds__(256, TILE == 128 ? 2 : 3)
    matmul(const Stored* a, const Stored* b, Result* d, unsigned m, unsigned n, unsigned k, unsigned splits,
           unsigned piece, unsigned row) {
  matmul_body(a, b, nullptr, d, m, n, k, splits, piece, row);
}
#endif

#else

// d[i] = [c +] the pieces in order.
__device__ __forceinline__ void matmul_reduce_body(const float* partial, const Stored* c, Stored* d, unsigned elements,
                                                   unsigned n, unsigned splits, unsigned row) {
  unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= elements) return;
  float sum = 0.0f;
#pragma unroll 4
  for (unsigned s = 0; s < splits; s++) sum += partial[(size_t)s * elements + i];
  d[i] = c ? c[row ? i % n : i] + sum : sum;
}

#if HAS_C
extern "C" __global__ void matmul_reduce(const float* partial, const Stored* c, Stored* d, unsigned elements,
                                         unsigned n, unsigned splits, unsigned row) {
  matmul_reduce_body(partial, c, d, elements, n, splits, row);
}
#else
extern "C" __global__ void matmul_reduce(const float* partial, Stored* d, unsigned elements, unsigned n,
                                         unsigned splits, unsigned row) {
  matmul_reduce_body(partial, nullptr, d, elements, n, splits, row);
}
#endif

#endif
