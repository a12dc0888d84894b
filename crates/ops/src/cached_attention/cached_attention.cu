// Attention over a paged cache. A group has some tokens' heads that share one of k and v, and goes through positions in
// splits of 256: scores by eight threads a key, weights by a warp a row, mixes by a thread a vector of four dimensions.
// A row's sums are the same whatever other rows there are: what it doesn't see adds zeros.
#define SPLIT 256
#define LANES 8
#define THREADS 256
#define VECTORS (HEAD_DIM / 4)
#define PER_LANE ((VECTORS + LANES - 1) / LANES)
#define ROWS (TOKENS * HEADS)
// Keys whose scores eight threads make at a time.
#define KEYS 4
#define GROUPS (THREADS / LANES)
// Threads that mix one vector of dimensions, each every so many-th quad of positions.
#define MIXERS (THREADS / VECTORS < 8 ? THREADS / VECTORS : 8)
#define LOWEST -3.402823466e38f

struct Cache {
  const float4 *keys, *values;
  const unsigned *block_table, *context_lens, *cu_seqlens;
  unsigned tokens, heads, kv_heads, sequences, blocks, block_size, slots, lanes;
  float scale;
};

// A token's sequence, or `sequences`; `end` is the first token after it that is elsewhere.
__device__ __forceinline__ unsigned sequence_of(const unsigned* cu_seqlens, unsigned sequences, unsigned tokens,
                                                unsigned token, unsigned& end) {
  unsigned low = 0, high = sequences + 1;
  while (low < high) {
    unsigned middle = (low + high) / 2;
    if (cu_seqlens[middle] <= token) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  end = low <= sequences ? min(tokens, cu_seqlens[low]) : tokens;
  return low == 0 || low > sequences ? sequences : low - 1;
}

// Positions that a token of a sequence sees.
__device__ __forceinline__ unsigned seen_by(const unsigned* context_lens, const unsigned* cu_seqlens,
                                            unsigned positions, unsigned sequence, unsigned token) {
  unsigned before_end = cu_seqlens[sequence + 1] - token - 1, length = context_lens[sequence];
  return length > before_end ? min(length - before_end, positions) : 0;
}

__device__ __forceinline__ float dot_on(float4 a, float4 b, float sum) {
  sum = __fmaf_rn(a.x, b.x, sum);
  sum = __fmaf_rn(a.y, b.y, sum);
  sum = __fmaf_rn(a.z, b.z, sum);
  return __fmaf_rn(a.w, b.w, sum);
}

__device__ __forceinline__ float4 add_scaled(float4 sum, float factor, float4 a) {
  return make_float4(__fmaf_rn(factor, a.x, sum.x), __fmaf_rn(factor, a.y, sum.y), __fmaf_rn(factor, a.z, sum.z),
                     __fmaf_rn(factor, a.w, sum.w));
}

__device__ __forceinline__ float4 scaled(float4 a, float factor) {
  return make_float4(__fmul_rn(a.x, factor), __fmul_rn(a.y, factor), __fmul_rn(a.z, factor), __fmul_rn(a.w, factor));
}

// What the splits so far and one more are multiplied by.
__device__ __forceinline__ float2 shares(float so_far, float split) {
  float higher = fmaxf(so_far, split);
  return make_float2(expf(so_far - higher), expf(split - higher));
}

// out = so_far keep + split take, in this order everywhere.
__device__ __forceinline__ float4 add_split(float4 so_far, float4 split, float2 share) {
  return add_scaled(scaled(split, share.y), share.x, so_far);
}

__device__ __forceinline__ float add_split(float so_far, float split, float2 share) {
  return __fmaf_rn(share.x, so_far, __fmul_rn(split, share.y));
}

struct Scratch {
  float4 queries[ROWS * VECTORS], spare[ROWS * VECTORS];
  float scores[ROWS * SPLIT];
  unsigned slot[SPLIT], seen[ROWS];
  float max[ROWS], sum[ROWS];
};

// The scores of `keys` positions: eight threads a key, four keys at a time.
__device__ __forceinline__ void make_scores(const Cache& c, Scratch& s, unsigned column,
                                            unsigned keys) {
  unsigned lane = threadIdx.x % LANES, group = threadIdx.x / LANES, stride = c.kv_heads * VECTORS;
  for (unsigned base = group; base - group < keys; base += GROUPS * KEYS) {
    float sums[ROWS][KEYS];
    const float4* from[KEYS];
#pragma unroll
    for (unsigned j = 0; j < KEYS; j++) {
      unsigned key = base + j * GROUPS;
      from[j] = key < keys ? c.keys + (size_t)s.slot[key] * stride + column : nullptr;
#pragma unroll
      for (unsigned r = 0; r < ROWS; r++) sums[r][j] = 0.0f;
    }
#pragma unroll
    for (unsigned i = 0; i < PER_LANE; i++) {
      unsigned vector = i * LANES + lane;
      bool inside = VECTORS % LANES == 0 || vector < VECTORS;
      float4 k[KEYS];
#pragma unroll
      for (unsigned j = 0; j < KEYS; j++) {
        k[j] = inside && from[j] != nullptr ? from[j][vector] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
#pragma unroll
      for (unsigned r = 0; r < ROWS; r++) {
        float4 q = inside ? s.queries[r * VECTORS + vector] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
        for (unsigned j = 0; j < KEYS; j++) sums[r][j] = dot_on(q, k[j], sums[r][j]);
      }
    }
#pragma unroll
    for (unsigned r = 0; r < ROWS; r++) {
#pragma unroll
      for (unsigned j = 0; j < KEYS; j++) {
        float sum = sums[r][j];
        sum += __shfl_xor_sync(FULL_WARP, sum, 1);
        sum += __shfl_xor_sync(FULL_WARP, sum, 2);
        sum += __shfl_xor_sync(FULL_WARP, sum, 4);
        unsigned key = base + j * GROUPS;
        if (lane == (r * KEYS + j) % LANES && key < SPLIT) s.scores[r * SPLIT + key] = __fmul_rn(sum, c.scale);
      }
    }
  }
}

// Scores to weights below each row's maximum: a warp a row.
__device__ __forceinline__ void make_weights(Scratch& s, unsigned start, unsigned keys) {
  unsigned lane = threadIdx.x % 32;
  for (unsigned row = threadIdx.x / 32; row < ROWS; row += THREADS / 32) {
    float* scores = s.scores + row * SPLIT;
    unsigned seen = s.seen[row] > start ? min(s.seen[row] - start, keys) : 0;
    float highest = LOWEST, sum = 0.0f;
    for (unsigned k = lane; k < seen; k += 32) highest = fmaxf(highest, scores[k]);
    highest = warp_max(highest);
    // Up to whole quads.
    for (unsigned k = lane; k < (keys + 3) / 4 * 4; k += 32) {
      float p = k < seen ? expf(scores[k] - highest) : 0.0f;
      scores[k] = p;
      sum += p;
    }
    sum = warp_sum(sum);
    if (lane == 0) s.max[row] = highest, s.sum[row] = sum;
  }
}

// The mixes of a split, in the first mixer's threads.
__device__ __forceinline__ void make_mixes(const Cache& c, Scratch& s, unsigned column, unsigned keys,
                                           float4 (&mix)[ROWS]) {
  unsigned vector = threadIdx.x % VECTORS, mixer = threadIdx.x / VECTORS, stride = c.kv_heads * VECTORS;
#pragma unroll
  for (unsigned r = 0; r < ROWS; r++) mix[r] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (mixer < MIXERS) {
    const float4* from = c.values + column + vector;
#pragma unroll 2
    for (unsigned quad = mixer; quad * 4 < keys; quad += MIXERS) {
      float4 v[4];
#pragma unroll
      for (unsigned j = 0; j < 4; j++) {
        unsigned key = quad * 4 + j;
        v[j] = key < keys ? from[(size_t)s.slot[key] * stride] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      }
#pragma unroll
      for (unsigned r = 0; r < ROWS; r++) {
        float4 p = *(const float4*)(s.scores + r * SPLIT + quad * 4);
        mix[r] = add_scaled(mix[r], p.x, v[0]);
        mix[r] = add_scaled(mix[r], p.y, v[1]);
        mix[r] = add_scaled(mix[r], p.z, v[2]);
        mix[r] = add_scaled(mix[r], p.w, v[3]);
      }
    }
  }
  for (unsigned other = 1; other < MIXERS; other++) {
    __syncthreads();
    if (mixer == other) {
#pragma unroll
      for (unsigned r = 0; r < ROWS; r++) s.spare[r * VECTORS + vector] = mix[r];
    }
    __syncthreads();
    if (mixer == 0) {
#pragma unroll
      for (unsigned r = 0; r < ROWS; r++) mix[r] = add_scaled(mix[r], 1.0f, s.spare[r * VECTORS + vector]);
    }
  }
}

// `out` for the rows of some tokens (WHOLE), or the splits blockIdx.z, blockIdx.z + lanes, ... of one token's rows.
template <bool WHOLE>
__device__ __forceinline__ void attend(const float4* qkv, const Cache& c, float4* out, float2* ends) {
  __shared__ Scratch s;
  __shared__ float4 total[WHOLE ? ROWS * VECTORS : 1];
  __shared__ float total_max[ROWS], total_sum[ROWS];
  unsigned thread = threadIdx.x, members = c.heads / c.kv_heads, tiles = (members + HEADS - 1) / HEADS;
  unsigned kv_head = blockIdx.y / tiles, first_head = kv_head * members + blockIdx.y % tiles * HEADS;
  unsigned last_head = min(first_head + HEADS, (kv_head + 1) * members), column = kv_head * VECTORS;
  unsigned positions = c.blocks * c.block_size, splits = (positions + SPLIT - 1) / SPLIT;
  unsigned first = blockIdx.x * TOKENS, last = min(c.tokens, first + TOKENS), end;
  // One sequence after the other.
  for (unsigned token = first; token < last; token = end) {
    unsigned sequence = sequence_of(c.cu_seqlens, c.sequences, c.tokens, token, end);
    end = min(end, last);
    bool placed = sequence < c.sequences;
    unsigned limit = placed ? seen_by(c.context_lens, c.cu_seqlens, positions, sequence, end - 1) : 0;
    __syncthreads();
    for (unsigned n = thread; n < ROWS * VECTORS; n += THREADS) {
      unsigned row = n / VECTORS, at = first + row / HEADS, head = first_head + row % HEADS;
      bool mine = at >= token && at < end && head < last_head;
      size_t from = ((size_t)at * (c.heads + 2 * c.kv_heads) + head) * VECTORS + n % VECTORS;
      s.queries[n] = mine ? qkv[from] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (WHOLE) total[n] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    if (thread < ROWS) {
      unsigned at = first + thread / HEADS;
      bool mine = placed && at >= token && at < end && first_head + thread % HEADS < last_head;
      s.seen[thread] = mine ? seen_by(c.context_lens, c.cu_seqlens, positions, sequence, at) : 0;
      total_max[thread] = LOWEST, total_sum[thread] = 0.0f;
    }
    unsigned count = (limit + SPLIT - 1) / SPLIT;
    for (unsigned split = WHOLE ? 0 : blockIdx.z; split < count; split += WHOLE ? 1 : c.lanes) {
      unsigned start = split * SPLIT, keys = min(limit - start, SPLIT);
      __syncthreads();
      if (thread < keys) {
        unsigned position = start + thread;
        unsigned block = c.block_table[(size_t)sequence * c.blocks + position / c.block_size];
        s.slot[thread] = min(block, c.slots / c.block_size - 1) * c.block_size + position % c.block_size;
      }
      __syncthreads();
      make_scores(c, s, column, keys);
      __syncthreads();
      make_weights(s, start, keys);
      __syncthreads();
      float4 mix[ROWS];
      make_mixes(c, s, column, keys, mix);
      if (thread < VECTORS) {
#pragma unroll
        for (unsigned r = 0; r < ROWS; r++) {
          if (WHOLE) {
            float4& so_far = total[r * VECTORS + thread];
            so_far = add_split(so_far, mix[r], shares(total_max[r], s.max[r]));
          } else if (first_head + r < last_head) {
            out[(((size_t)token * c.heads + first_head + r) * splits + split) * VECTORS + thread] = mix[r];
          }
        }
      }
      if (WHOLE) {
        __syncthreads();
        if (thread < ROWS) {
          total_sum[thread] = add_split(total_sum[thread], s.sum[thread], shares(total_max[thread], s.max[thread]));
          total_max[thread] = fmaxf(total_max[thread], s.max[thread]);
        }
      } else if (thread < last_head - first_head) {
        size_t at = ((size_t)token * c.heads + first_head + thread) * splits + split;
        ends[at] = make_float2(s.max[thread], s.sum[thread]);
      }
    }
    if (WHOLE) {
      __syncthreads();
      for (unsigned n = thread; n < ROWS * VECTORS; n += THREADS) {
        unsigned row = n / VECTORS, at = first + row / HEADS, head = first_head + row % HEADS;
        float factor = total_sum[row] > 0.0f ? 1.0f / total_sum[row] : 0.0f;
        if (at >= token && at < end && head < last_head) {
          out[((size_t)at * c.heads + head) * VECTORS + n % VECTORS] = scaled(total[n], factor);
        }
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cached_attention(const float4* qkv, const float4* keys, const float4* values, const unsigned* block_table,
                     const unsigned* context_lens, const unsigned* cu_seqlens, float4* out, unsigned tokens,
                     unsigned heads, unsigned kv_heads, unsigned, unsigned sequences, unsigned blocks,
                     unsigned block_size, unsigned slots, unsigned lanes, float scale) {
  Cache cache = {keys,     values,    block_table, context_lens, cu_seqlens, tokens, heads,
                 kv_heads, sequences, blocks,      block_size,   slots,      lanes,  scale};
  attend<true>(qkv, cache, out, nullptr);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cached_attention_splits(const float4* qkv, const float4* keys, const float4* values, const unsigned* block_table,
                            const unsigned* context_lens, const unsigned* cu_seqlens, float4* mixes, float2* ends,
                            unsigned tokens, unsigned heads, unsigned kv_heads, unsigned, unsigned sequences,
                            unsigned blocks, unsigned block_size, unsigned slots, unsigned lanes, float scale) {
  Cache cache = {keys,     values,    block_table, context_lens, cu_seqlens, tokens, heads,
                 kv_heads, sequences, blocks,      block_size,   slots,      lanes,  scale};
  attend<false>(qkv, cache, mixes, ends);
}

// Adds up the splits of one row, in order: a group has a head of a token.
__device__ __forceinline__ void combine_body(const unsigned* context_lens, const unsigned* cu_seqlens,
                                             const float4* mixes, const float2* ends, float4* out, unsigned tokens,
                                             unsigned heads, unsigned sequences, unsigned positions) {
  unsigned token = blockIdx.x, end, splits = (positions + SPLIT - 1) / SPLIT;
  unsigned sequence = sequence_of(cu_seqlens, sequences, tokens, token, end);
  unsigned seen = sequence < sequences ? seen_by(context_lens, cu_seqlens, positions, sequence, token) : 0;
  unsigned count = (seen + SPLIT - 1) / SPLIT;
  size_t row = (size_t)token * heads + blockIdx.y;
  for (unsigned vector = threadIdx.x; vector < VECTORS; vector += blockDim.x) {
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    float highest = LOWEST, sum = 0.0f;
#pragma unroll 4
    for (unsigned split = 0; split < count; split++) {
      float2 of = ends[row * splits + split];
      float2 share = shares(highest, of.x);
      total = add_split(total, mixes[(row * splits + split) * VECTORS + vector], share);
      sum = add_split(sum, of.y, share);
      highest = fmaxf(highest, of.x);
    }
    out[row * VECTORS + vector] = scaled(total, sum > 0.0f ? 1.0f / sum : 0.0f);
  }
}

extern "C" __global__ void cached_attention_combine(const unsigned* context_lens, const unsigned* cu_seqlens,
                                                    const float4* mixes, const float2* ends, float4* out,
                                                    unsigned tokens, unsigned heads, unsigned, unsigned,
                                                    unsigned sequences, unsigned blocks, unsigned block_size, unsigned,
                                                    unsigned, float) {
  combine_body(context_lens, cu_seqlens, mixes, ends, out, tokens, heads, sequences, blocks * block_size);
}
