// A token for each row of logits: the largest, or drawn within top-k, top-p and min-p. One row a group of 1024 threads;
// every sum is over all 1024th elements of a thread, then over the threads.
#define THREADS 1024
#define LEAST_TEMPERATURE 1e-20f
#define BELOW -80.0f
#define LEAST_KEY 0x007fffffu
#define GREATEST_KEY 0xff800000u

// One row, NaNs as -infinity.
struct Row {
  const float* logits;
  unsigned vocab;
  float max, temperature;
  // Below it nothing has a mass.
  float bound;

  __device__ __forceinline__ float logit(unsigned j) const {
    float x = logits[j];
    return (__float_as_uint(x) & 0x7fffffffu) > 0x7f800000u ? -INFINITY_ : x;
  }

  __device__ __forceinline__ float mass(float x) const {
    float below = (x - max) / temperature;
    float weight = below > BELOW ? expf(below) : 0.0f;
    return x == max ? 1.0f : (x < bound ? 0.0f : weight);
  }
};

// The number of a key; keys are in the order of their numbers, from that of -infinity to that of infinity.
__device__ __forceinline__ float of_key(unsigned key) {
  return __uint_as_float(key >> 31 ? key & 0x7fffffffu : ~key);
}

// The greatest bound that leaves `enough` logits, or enough mass: two bits of its key at a time.
template <bool MASS>
__device__ __forceinline__ float greatest_bound(const Row& row, float enough) {
  unsigned key = 0;
  // How many are at least the bound, and how many are at least the least bound that is known to be too high.
  float left = (float)row.vocab + 2.0f, beyond = 0.0f;
  for (int shift = 30; shift >= 0; shift -= 2) {
    float bounds[3], counts[3] = {0.0f, 0.0f, 0.0f}, sums[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
    for (unsigned i = 0; i < 3; i++) {
      unsigned higher = key | (i + 1) << shift;
      bounds[i] = of_key(min(max(higher, LEAST_KEY), GREATEST_KEY));
    }
#pragma unroll 4
    for (unsigned j = threadIdx.x; j < row.vocab; j += THREADS) {
      float x = row.logit(j), mass = MASS ? row.mass(x) : 0.0f;
#pragma unroll
      for (unsigned i = 0; i < 3; i++) {
        counts[i] += x >= bounds[i] ? 1.0f : 0.0f;
        if (MASS) sums[i] += x >= bounds[i] ? mass : 0.0f;
      }
    }
    unsigned digit = 0;
    for (unsigned i = 0; i < 3; i++) {
      unsigned higher = key | (i + 1) << shift;
      float count = block_sum(counts[i]), sum = MASS ? block_sum(sums[i]) : count;
      bool good = higher <= LEAST_KEY || (higher <= GREATEST_KEY && sum >= enough && count > 0.0f);
      if (good) {
        digit = i + 1;
        left = count;
      } else if (digit == i) {
        beyond = higher <= GREATEST_KEY ? count : 0.0f;
      }
    }
    key |= digit << shift;
    // The bound's own logit is all that is left between the two, or there are just as many as asked for.
    if (key > LEAST_KEY && (left - beyond <= 1.0f || (!MASS && left == enough))) break;
  }
  return of_key(max(key, LEAST_KEY));
}

// The last of the threads, by sums, at which the sum of all before it isn't above the target yet; with the sum before it.
// `sums` are of 32 threads' 32 sums.
__device__ __forceinline__ void find_thread(const float* sums, const float* sums32, float target, unsigned& at,
                                            float& before) {
  unsigned block = 0;
  before = 0.0f;
  at = 0xffffffffu;
  unsigned last = 0;
  for (unsigned i = 0; i < 32; i++) {
    if (sums32[i] > 0.0f) last = i;
  }
  while (block < last && before + sums32[block] <= target) before += sums32[block++];
  unsigned end = block * 32 + 31;
  while (sums[end] <= 0.0f && end > block * 32) end--;
  at = block * 32;
  while (at < end && before + sums[at] <= target) before += sums[at++];
}

__device__ __forceinline__ void sample_body(const float* logits, const float* temperature, const unsigned* top_k,
                                            const float* top_p, const float* min_p, const unsigned* seed,
                                            const unsigned* counter, unsigned* y, unsigned rows, unsigned vocab) {
  __shared__ float sums[THREADS], sums32[32];
  __shared__ unsigned owner;
  __shared__ float target, before;
  unsigned thread = threadIdx.x;
  for (unsigned n = blockIdx.x; n < rows; n += gridDim.x) {
    Row row = {logits + (size_t)n * vocab, vocab, 0.0f, fmaxf(temperature[n], LEAST_TEMPERATURE), -INFINITY_};
    float highest = -INFINITY_;
    for (unsigned j = thread; j < vocab; j += THREADS) highest = fmaxf(highest, row.logit(j));
    row.max = block_max(highest);
    if (row.max == -INFINITY_ || !(temperature[n] > 0.0f)) {
      // The first of equals; whole numbers up to 2^24 are exact.
      float first = -16777216.0f;
      for (unsigned j = thread; j < vocab; j += THREADS) {
        if (row.logit(j) == row.max) first = fmaxf(first, -(float)j);
      }
      first = block_max(first);
      if (thread == 0) y[n] = row.max == -INFINITY_ ? 0 : (unsigned)-first;
      continue;
    }
    if (top_k[n] > 0 && top_k[n] < vocab) row.bound = greatest_bound<false>(row, (float)top_k[n]);
    if (top_p[n] < 1.0f) {
      float sum = 0.0f;
#pragma unroll 4
      for (unsigned j = thread; j < vocab; j += THREADS) sum += row.mass(row.logit(j));
      row.bound = fmaxf(row.bound, greatest_bound<true>(row, fmaxf(top_p[n], 0.0f) * block_sum(sum)));
    }
    float least = min_p[n] > 0.0f ? fminf(min_p[n], 1.0f) : 0.0f;
    // From here on in the order of the tokens: a run of them a thread.
    unsigned run = (vocab + THREADS - 1) / THREADS, from = min(vocab, thread * run), to = min(vocab, from + run);
    float sum = 0.0f;
    for (unsigned j = from; j < to; j++) {
      float mass = row.mass(row.logit(j));
      sum += mass < least ? 0.0f : mass;
    }
    __syncthreads();
    sums[thread] = sum;
    __syncthreads();
    if (thread < 32) {
      float part = 0.0f;
      for (unsigned i = 0; i < 32; i++) part += sums[thread * 32 + i];
      sums32[thread] = part;
    }
    __syncthreads();
    if (thread == 0) {
      float total = 0.0f;
      for (unsigned i = 0; i < 32; i++) total += sums32[i];
      unsigned c[4] = {counter[n], 0, 0, 0}, key[2] = {seed[2 * n], seed[2 * n + 1]};
      for (int round = 0; round < 10; round++) {
        unsigned long long p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
        unsigned a = (unsigned)(p1 >> 32) ^ c[1] ^ key[0], b = (unsigned)(p0 >> 32) ^ c[3] ^ key[1];
        c[0] = a, c[1] = (unsigned)p1, c[2] = b, c[3] = (unsigned)p0;
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
      }
      target = (float)(c[0] >> 8) * (1.0f / 16777216.0f) * total;
      find_thread(sums, sums32, target, owner, before);
    }
    __syncthreads();
    if (thread == owner) {
      float so_far = before;
      unsigned answer = 0;
      for (unsigned j = from; j < to; j++) {
        float mass = row.mass(row.logit(j));
        if (mass < least || mass <= 0.0f) continue;
        so_far += mass;
        answer = j;
        if (so_far > target) break;
      }
      y[n] = answer;
    }
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sample(const float* logits, const float* temperature, const unsigned* top_k, const float* top_p,
           const float* min_p, const unsigned* seed, const unsigned* counter, unsigned* y, unsigned rows,
           unsigned vocab) {
  sample_body(logits, temperature, top_k, top_p, min_p, seed, counter, y, rows, vocab);
}
