// Rotary positions, one row a group: a thread has a pair of dimensions and turns it in every head. y may be x.
#define FIRST 0x28be60db9391054aull  // 1 / (2 pi) in units of 2^-64

// How far pair i turns from one position to the next: FIRST ratio^i, in units of 2^-64 of a turn.
__device__ __forceinline__ unsigned long long frequency_of(unsigned long long ratio, unsigned i) {
  unsigned long long frequency = FIRST;
  for (; i > 0; i >>= 1) {
    if (i & 1) frequency = __umul64hi(frequency, ratio);
    ratio = __umul64hi(ratio, ratio);
  }
  return frequency;
}

// How frequencies are lowered, in units of 2^-64 of a turn: not from `fast` on.
struct Scaling {
  unsigned long long slow, fast, least, slope;
  unsigned shift;
};

__device__ __forceinline__ unsigned long long scaled(unsigned long long frequency, const Scaling& s) {
  if (frequency >= s.fast) return frequency;
  unsigned long long above = frequency > s.slow ? (frequency - s.slow) << s.shift : 0;
  return __umul64hi(frequency, s.least + (__umul64hi(above, s.slope) << 1));
}

__device__ __forceinline__ unsigned long long pair_of(unsigned high, unsigned low) {
  return (unsigned long long)high << 32 | low;
}

// Cosine and sine of an angle in units of 2^-32 of a turn: polynomials around the nearest quarter.
__device__ __forceinline__ float2 cos_sin(unsigned turn) {
  unsigned quarter = (turn + (1u << 29)) >> 30;
  float x = (float)(int)(turn - (quarter << 30)) * 1.4629181e-9f, u = x * x;
  float s = x + x * u * (-1.6666667e-1f + u * (8.333334e-3f + u * (-1.984127e-4f + u * 2.7557319e-6f)));
  float c = 1.0f + u * (-0.5f + u * (4.1666668e-2f + u * (-1.3888889e-3f + u * (2.4801587e-5f + u * -2.755732e-7f))));
  float a = quarter & 1 ? s : c, b = quarter & 1 ? c : s;
  return make_float2((quarter + 1) & 2 ? -a : a, quarter & 2 ? -b : b);
}

__device__ __forceinline__ void rope_body(const Stored* x, const unsigned* positions, Stored* y, unsigned tokens,
                                          unsigned columns, unsigned heads, unsigned half, unsigned long long ratio,
                                          bool backwards, const Scaling& scaling) {
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    size_t row = (size_t)token * columns;
    unsigned position = positions[token];
    // Narrow heads leave threads for several heads at a time.
    unsigned lanes = min(half, blockDim.x), abreast = blockDim.x / lanes;
    unsigned lane = threadIdx.x % lanes, first_head = threadIdx.x / lanes;
    if (first_head < abreast) {
      for (unsigned i = lane; i < half; i += lanes) {
        float2 turn = cos_sin((unsigned)((scaled(frequency_of(ratio, i), scaling) * position) >> 32));
        if (backwards) turn.y = -turn.y;
        for (unsigned head = first_head; head < heads; head += abreast) {
          size_t at = row + head * 2 * half + i;
          float a = x[at], b = x[at + half];
          y[at] = a * turn.x - b * turn.y;
          y[at + half] = b * turn.x + a * turn.y;
        }
      }
    }
    if (x != y) {
      for (unsigned j = heads * 2 * half + threadIdx.x; j < columns; j += blockDim.x) y[row + j] = x[row + j];
    }
  }
}

extern "C" __global__ void rope(const Stored* x, const unsigned* positions, Stored* y, unsigned tokens,
                                unsigned columns, unsigned heads, unsigned half, unsigned ratio_high,
                                unsigned ratio_low, unsigned backwards, unsigned slow_high, unsigned slow_low,
                                unsigned fast_high, unsigned fast_low, unsigned least_high, unsigned least_low,
                                unsigned slope_high, unsigned slope_low, unsigned shift) {
  unsigned long long ratio = pair_of(ratio_high, ratio_low);
  Scaling scaling = {pair_of(slow_high, slow_low), pair_of(fast_high, fast_low), pair_of(least_high, least_low),
                     pair_of(slope_high, slope_low), shift};
  rope_body(x, positions, y, tokens, columns, heads, half, ratio, backwards == 1, scaling);
}
