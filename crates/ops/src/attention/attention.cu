// Causal attention over packed rows. A group has 32 rows of one head, four threads a row, each with every fourth vector
// of four dimensions in registers; the other side goes through shared memory, 16 rows at a time.
#define ROWS 32
#define STEP 16
#define LANES 4
#define THREADS (ROWS * LANES)
#define VECTORS (HEAD_DIM / 4)
#define PER_LANE ((VECTORS + LANES - 1) / LANES)
#define PADDED (PER_LANE * LANES)
#define LOWEST -3.402823466e38f

// Where a row's sequence starts and ends; both 0 for a token outside of every sequence.
__device__ __forceinline__ uint2 sequence_of(const unsigned* cu_seqlens, unsigned sequences, unsigned tokens,
                                             unsigned token) {
  unsigned low = 0, high = sequences + 1;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (cu_seqlens[middle] <= token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (token >= tokens || low == 0 || low > sequences) return make_uint2(0, 0);
  return make_uint2(cu_seqlens[low - 1], min(cu_seqlens[low], tokens));
}

// This thread's vectors of a row of head_dim numbers; zeros outside.
__device__ __forceinline__ void load_row(float4 (&row)[PER_LANE], const Stored* from, bool inside) {
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) {
    unsigned vector = i * LANES + threadIdx.x % LANES;
    row[i] = inside && vector < VECTORS ? load4(from, vector) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

__device__ __forceinline__ void store_row(Stored* to, const float4 (&row)[PER_LANE], float factor) {
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) {
    unsigned vector = i * LANES + threadIdx.x % LANES;
    float4 x = row[i];
    x = make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor);
    if (vector < VECTORS) store4(to, x, vector);
  }
}

// STEP rows of head_dim numbers, `stride` apart, into shared memory; zeros from token `end` on.
__device__ __forceinline__ void stage(float4* tile, const Stored* from, size_t stride, unsigned first, unsigned end) {
  for (unsigned n = threadIdx.x; n < STEP * PADDED; n += THREADS) {
    unsigned row = n / PADDED, vector = n % PADDED;
    bool inside = first + row < end && vector < VECTORS;
    tile[n] = inside ? load4(from + (first + row) * stride, vector) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

// The dot product of a row in registers and one in shared memory, in each of the row's four threads.
__device__ __forceinline__ float dot_row(const float4 (&a)[PER_LANE], const float4* row) {
  float sum = 0.0f;
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) {
    float4 b = row[i * LANES + threadIdx.x % LANES];
    sum = fmaf(a[i].x, b.x, sum);
    sum = fmaf(a[i].y, b.y, sum);
    sum = fmaf(a[i].z, b.z, sum);
    sum = fmaf(a[i].w, b.w, sum);
  }
  sum += __shfl_xor_sync(FULL_WARP, sum, 1);
  sum += __shfl_xor_sync(FULL_WARP, sum, 2);
  return sum;
}

// a += factor * row.
__device__ __forceinline__ void add_row(float4 (&a)[PER_LANE], float factor, const float4* row) {
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) {
    float4 b = row[i * LANES + threadIdx.x % LANES];
    a[i].x += factor * b.x;
    a[i].y += factor * b.y;
    a[i].z += factor * b.z;
    a[i].w += factor * b.w;
  }
}

__device__ __forceinline__ void clear_row(float4 (&a)[PER_LANE]) {
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) a[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

__device__ __forceinline__ void attention_body(const Stored* qkv, const unsigned* cu_seqlens, Stored* out, float* lse,
                                               unsigned tokens, unsigned heads, unsigned kv_heads,
                                               unsigned sequences, float scale) {
  __shared__ float4 keys[STEP * PADDED], values[STEP * PADDED];
  // The last tiles have the most keys: they start first.
  unsigned first = (gridDim.x - 1 - blockIdx.x) * ROWS, head = blockIdx.y;
  unsigned query = first + threadIdx.x / LANES;
  size_t width = (size_t)heads * HEAD_DIM, shared = (size_t)kv_heads * HEAD_DIM, stride = width + 2 * shared;
  const Stored *q_at = qkv + head * HEAD_DIM, *k_at = qkv + width + head / (heads / kv_heads) * HEAD_DIM;
  const Stored* v_at = k_at + shared;
  uint2 sequence = sequence_of(cu_seqlens, sequences, tokens, query);
  uint2 earliest = sequence_of(cu_seqlens, sequences, tokens, first);
  unsigned from = earliest.y > 0 ? earliest.x : first, to = min(tokens, first + ROWS);
  bool placed = sequence.y > 0;
  float4 q[PER_LANE], mixed[PER_LANE];
  load_row(q, q_at + query * stride, placed);
  clear_row(mixed);
  float highest = LOWEST, sum = 0.0f;
  for (; from < to; from += STEP) {
    __syncthreads();
    stage(keys, k_at, stride, from, to);
    stage(values, v_at, stride, from, to);
    __syncthreads();
    float scores[STEP], higher = highest;
#pragma unroll
    for (unsigned j = 0; j < STEP; j++) {
      bool seen = placed && from + j >= sequence.x && from + j <= query;
      float score = dot_row(q, keys + j * PADDED) * scale;
      scores[j] = seen ? score : -INFINITY_;
      higher = fmaxf(higher, scores[j]);
    }
    float factor = expf(highest - higher);
    highest = higher;
    sum *= factor;
#pragma unroll
    for (unsigned i = 0; i < PER_LANE; i++) {
      mixed[i].x *= factor;
      mixed[i].y *= factor;
      mixed[i].z *= factor;
      mixed[i].w *= factor;
    }
#pragma unroll
    for (unsigned j = 0; j < STEP; j++) {
      float p = expf(scores[j] - highest);
      sum += p;
      add_row(mixed, p, values + j * PADDED);
    }
  }
  if (query >= tokens) return;
  store_row(out + query * width + head * HEAD_DIM, mixed, placed ? 1.0f / sum : 0.0f);
  if (threadIdx.x % LANES == 0) lse[(size_t)head * tokens + query] = placed ? highest + logf(sum) : 0.0f;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention(const Stored* qkv, const unsigned* cu_seqlens, Stored* out, float* lse, unsigned tokens, unsigned heads,
              unsigned kv_heads, unsigned, unsigned sequences, float scale) {
  attention_body(qkv, cu_seqlens, out, lse, tokens, heads, kv_heads, sequences, scale);
}

// dq, and each row's dout.out for the next launch.
__device__ __forceinline__ void attention_backward_q_body(const Stored* qkv, const unsigned* cu_seqlens,
                                                          const Stored* out, const float* lse, const Stored* dout,
                                                          Stored* dqkv, float* delta, unsigned tokens, unsigned heads,
                                                          unsigned kv_heads, unsigned sequences, float scale) {
  __shared__ float4 keys[STEP * PADDED], values[STEP * PADDED];
  unsigned first = (gridDim.x - 1 - blockIdx.x) * ROWS, head = blockIdx.y;
  unsigned query = first + threadIdx.x / LANES;
  size_t width = (size_t)heads * HEAD_DIM, shared = (size_t)kv_heads * HEAD_DIM, stride = width + 2 * shared;
  const Stored *q_at = qkv + head * HEAD_DIM, *k_at = qkv + width + head / (heads / kv_heads) * HEAD_DIM;
  const Stored* v_at = k_at + shared;
  uint2 sequence = sequence_of(cu_seqlens, sequences, tokens, query);
  uint2 earliest = sequence_of(cu_seqlens, sequences, tokens, first);
  unsigned from = earliest.y > 0 ? earliest.x : first, to = min(tokens, first + ROWS);
  bool placed = sequence.y > 0;
  float4 q[PER_LANE], dmixed[PER_LANE], dq[PER_LANE];
  // dq holds the row of `out` until its product with `dout` is known.
  load_row(q, q_at + query * stride, placed);
  load_row(dmixed, dout + query * width + head * HEAD_DIM, placed);
  load_row(dq, out + query * width + head * HEAD_DIM, placed);
  float row_delta = 0.0f, row_lse = placed ? lse[(size_t)head * tokens + query] : 0.0f;
#pragma unroll
  for (unsigned i = 0; i < PER_LANE; i++) {
    row_delta += dmixed[i].x * dq[i].x + dmixed[i].y * dq[i].y + dmixed[i].z * dq[i].z + dmixed[i].w * dq[i].w;
  }
  row_delta += __shfl_xor_sync(FULL_WARP, row_delta, 1);
  row_delta += __shfl_xor_sync(FULL_WARP, row_delta, 2);
  clear_row(dq);
  for (; from < to; from += STEP) {
    __syncthreads();
    stage(keys, k_at, stride, from, to);
    stage(values, v_at, stride, from, to);
    __syncthreads();
#pragma unroll 4
    for (unsigned j = 0; j < STEP; j++) {
      bool seen = placed && from + j >= sequence.x && from + j <= query;
      float score = dot_row(q, keys + j * PADDED) * scale;
      float dp = dot_row(dmixed, values + j * PADDED);
      float p = seen ? expf(score - row_lse) : 0.0f;
      add_row(dq, p * (dp - row_delta) * scale, keys + j * PADDED);
    }
  }
  if (query >= tokens) return;
  store_row(dqkv + query * stride + head * HEAD_DIM, dq, 1.0f);
  if (threadIdx.x % LANES == 0) delta[(size_t)head * tokens + query] = row_delta;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_q(const Stored* qkv, const unsigned* cu_seqlens, const Stored* out, const float* lse,
                         const Stored* dout, Stored* dqkv, float* delta, unsigned tokens, unsigned heads,
                         unsigned kv_heads, unsigned, unsigned sequences, float scale) {
  attention_backward_q_body(qkv, cu_seqlens, out, lse, dout, dqkv, delta, tokens, heads, kv_heads, sequences,
                            scale);
}

// dk and dv: each row is a key, and the queries that see it go by, of all heads that share it.
__device__ __forceinline__ void attention_backward_kv_body(const Stored* qkv, const unsigned* cu_seqlens,
                                                           const float* lse, const Stored* dout, const float* delta,
                                                           Stored* dqkv, unsigned tokens, unsigned heads,
                                                           unsigned kv_heads, unsigned sequences, float scale) {
  __shared__ float4 queries[STEP * PADDED], dmixed[STEP * PADDED];
  __shared__ float tile_lse[STEP], tile_delta[STEP];
  unsigned first = blockIdx.x * ROWS, group = heads / kv_heads;
  unsigned key = first + threadIdx.x / LANES;
  size_t width = (size_t)heads * HEAD_DIM, shared = (size_t)kv_heads * HEAD_DIM, stride = width + 2 * shared;
  const Stored *k_at = qkv + width + blockIdx.y * HEAD_DIM, *v_at = k_at + shared;
  unsigned last = min(tokens, first + ROWS) - 1;
  uint2 sequence = sequence_of(cu_seqlens, sequences, tokens, key);
  uint2 latest = sequence_of(cu_seqlens, sequences, tokens, last);
  unsigned to = latest.y > 0 ? latest.y : last + 1;
  bool placed = sequence.y > 0;
  float4 k[PER_LANE], v[PER_LANE], dk[PER_LANE], dv[PER_LANE];
  load_row(k, k_at + key * stride, placed);
  load_row(v, v_at + key * stride, placed);
  clear_row(dk);
  clear_row(dv);
  // One head of q after the other.
  for (unsigned head = blockIdx.y * group; head < (blockIdx.y + 1) * group; head++) {
    for (unsigned from = first; from < to; from += STEP) {
      __syncthreads();
      stage(queries, qkv + head * HEAD_DIM, stride, from, to);
      stage(dmixed, dout + head * HEAD_DIM, width, from, to);
      if (threadIdx.x < STEP) {
        size_t query = (size_t)head * tokens + from + threadIdx.x;
        bool inside = from + threadIdx.x < to;
        tile_lse[threadIdx.x] = inside ? lse[query] : 0.0f;
        tile_delta[threadIdx.x] = inside ? delta[query] : 0.0f;
      }
      __syncthreads();
#pragma unroll 2
      for (unsigned j = 0; j < STEP; j++) {
        bool seen = placed && from + j >= key && from + j < sequence.y;
        float score = dot_row(k, queries + j * PADDED) * scale;
        float dp = dot_row(v, dmixed + j * PADDED);
        float p = seen ? expf(score - tile_lse[j]) : 0.0f;
        add_row(dv, p, dmixed + j * PADDED);
        add_row(dk, p * (dp - tile_delta[j]) * scale, queries + j * PADDED);
      }
    }
  }
  if (key >= tokens) return;
  Stored* row = dqkv + key * stride + width + blockIdx.y * HEAD_DIM;
  store_row(row, dk, 1.0f);
  store_row(row + shared, dv, 1.0f);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_backward_kv(const Stored* qkv, const unsigned* cu_seqlens, const float* lse, const Stored* dout,
                          const float* delta, Stored* dqkv, unsigned tokens, unsigned heads, unsigned kv_heads,
                          unsigned, unsigned sequences, float scale) {
  attention_backward_kv_body(qkv, cu_seqlens, lse, dout, delta, dqkv, tokens, heads, kv_heads, sequences, scale);
}
