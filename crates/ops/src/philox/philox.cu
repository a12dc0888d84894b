// Philox4x32-10 (Salmon et al., SC 2011): uniform numbers, a block of four a thread.
__device__ __forceinline__ void philox_uniform_body(const unsigned* step, float* y, unsigned n, unsigned key_low,
                                                    unsigned key_high, float low, float high) {
  // No multiply-add: the same bits as on every device.
  float range = __fsub_rn(high, low);
  unsigned blocks = n / 4 + (n % 4 != 0);
  for (unsigned block = blockIdx.x * blockDim.x + threadIdx.x; block < blocks; block += gridDim.x * blockDim.x) {
    unsigned c[4] = {block, 0, *step, 0}, key[2] = {key_low, key_high};
#pragma unroll
    for (int round = 0; round < 10; round++) {
      unsigned long long p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      unsigned a = (unsigned)(p1 >> 32) ^ c[1] ^ key[0], b = (unsigned)(p0 >> 32) ^ c[3] ^ key[1];
      c[0] = a, c[1] = (unsigned)p1, c[2] = b, c[3] = (unsigned)p0;
      key[0] += 0x9E3779B9u;
      key[1] += 0xBB67AE85u;
    }
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      unsigned i = block * 4 + k;
      if (i < n) y[i] = __fadd_rn(low, __fmul_rn(range, (float)(c[k] >> 8) * (1.0f / 16777216.0f)));
    }
  }
}

extern "C" __global__ void uniform(const unsigned* step, float* y, unsigned n, unsigned key_low, unsigned key_high,
                                   float low, float high) {
  philox_uniform_body(step, y, n, key_low, key_high, low, high);
}
