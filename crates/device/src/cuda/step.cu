// What a recording runs besides the plan's own launches: inputs from the ring, outputs to the ring, copies; and what
// measures the machine. SLOTS is the number of slots of a ring.

// block = slot `counter` of the ring, in vectors of 16 bytes.
extern "C" __global__ void step_begin(const uint4* __restrict__ ring, uint4* __restrict__ block,
                                      const unsigned* counter, unsigned vectors) {
  const uint4* slot = ring + (size_t)(*counter % SLOTS) * vectors;
  unsigned stride = gridDim.x * blockDim.x;
#pragma unroll 4
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += stride) block[i] = slot[i];
}

// Slot `counter` of the ring = block; the block that comes last moves the counter on.
extern "C" __global__ void step_end(const uint4* __restrict__ block, uint4* __restrict__ ring, unsigned* counter,
                                    unsigned* arrived, unsigned vectors) {
  unsigned step = *(volatile unsigned*)counter;
  uint4* slot = ring + (size_t)(step % SLOTS) * vectors;
  unsigned stride = gridDim.x * blockDim.x;
#pragma unroll 4
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += stride) slot[i] = block[i];
  // All threads of this block have read the counter.
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    // It wraps to zero at the last block, ready for the next step.
    if (atomicInc(arrived, gridDim.x - 1) == gridDim.x - 1) *counter = step + 1;
  }
}

extern "C" __global__ void step_copy(const uint4* __restrict__ from, uint4* __restrict__ to, unsigned vectors) {
  unsigned stride = gridDim.x * blockDim.x;
#pragma unroll 4
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += stride) to[i] = from[i];
}

// Keeps the stream busy for `nanoseconds`, so that what the host queues meanwhile runs without gaps.
extern "C" __global__ void step_delay(unsigned nanoseconds) {
  unsigned long long start, now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  while (now - start < nanoseconds);
}

// The shortest launch.
extern "C" __global__ void step_nothing(unsigned) {}

// 16 independent chains of 16 multiply-adds a round: the arithmetic limit.
extern "C" __global__ void step_multiply_adds(float* out, unsigned rounds, float a) {
  float v[16];
#pragma unroll
  for (int i = 0; i < 16; i++) v[i] = (float)(threadIdx.x + i);
  for (unsigned r = 0; r < rounds; r++) {
#pragma unroll
    for (int k = 0; k < 16; k++) {
#pragma unroll
      for (int i = 0; i < 16; i++) v[i] = fmaf(v[i], a, 1.0f);
    }
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < 16; i++) sum += v[i];
  // Never true; the compiler can't know.
  if (sum == -1.0f) *out = sum;
}
