// What CUDA kernels share. No header is included: NVRTC alone compiles this.
#define erf_ erff
#define FULL_WARP 0xffffffffu
#define INFINITY_ __int_as_float(0x7f800000)

// Sum over the warp, the same bits in every lane: pairs 16 apart, then 8, 4, 2, 1.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(FULL_WARP, v, offset);
  return v;
}

// Greatest of the warp, in every lane.
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(FULL_WARP, v, offset));
  return v;
}

// Sum over the block, the same bits in every thread: each warp's sum, then the sum of those. All threads call it, and
// there are a whole number of warps. The order depends on the number of threads alone.
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float parts[32];
  unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  v = warp_sum(v);
  // What an earlier call left must have been read.
  __syncthreads();
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  return warp_sum(lane < blockDim.x >> 5 ? parts[lane] : 0.0f);
}

// Greatest of the block, in every thread; called as `block_sum` is.
__device__ __forceinline__ float block_max(float v) {
  __shared__ float parts[32];
  unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  v = warp_max(v);
  __syncthreads();
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  return warp_max(lane < blockDim.x >> 5 ? parts[lane] : -INFINITY_);
}

// bf16 and f16 as their bits: to the nearest, ties to even; NaNs stay NaNs, what is too large is infinite.
__device__ __forceinline__ float float_of_bf16(unsigned short x) { return __uint_as_float((unsigned)x << 16); }

__device__ __forceinline__ unsigned short bf16_of(float x) {
  unsigned short y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float float_of_f16(unsigned short x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

__device__ __forceinline__ unsigned short f16_of(float x) {
  unsigned short y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
