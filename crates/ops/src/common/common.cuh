// What CUDA kernels share. No header is included: NVRTC alone compiles this.
#define erf_ erff
#define FULL_WARP 0xffffffffu
#define INFINITY_ __int_as_float(0x7f800000)
#define NAN_ __int_as_float(0x7fc00000)

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

// An element of 16 bits where it is stored: 1 is bf16, 2 is f16. Reading gives a float, writing rounds one.
template <int type>
struct Element {
  unsigned short bits;
  __device__ __forceinline__ operator float() const { return type == 1 ? float_of_bf16(bits) : float_of_f16(bits); }
  __device__ __forceinline__ void operator=(float x) { bits = type == 1 ? bf16_of(x) : f16_of(x); }
};

template <int type>
struct ElementOf {
  typedef Element<type> Type;
};
template <>
struct ElementOf<0> {
  typedef float Type;
};

// What a launch's tensors are stored as, f32 if it doesn't say; RESULT where its output is stored as something else.
#ifndef STORAGE
#define STORAGE 0
#endif
#ifndef RESULT
#define RESULT STORAGE
#endif
typedef ElementOf<STORAGE>::Type Stored;
typedef ElementOf<RESULT>::Type Result;

// What x is once it has been stored.
template <class E>
__device__ __forceinline__ float rounded(float x) {
  E e;
  e = x;
  return e;
}

// Whether four elements can be read or written at once. What isn't there is null, and aligned.
template <class E>
__device__ __forceinline__ bool aligned4(const E* p) {
  return ((size_t)p & (4 * sizeof(E) - 1)) == 0;
}

// Vector i of four elements.
__device__ __forceinline__ float4 load4(const float* at, size_t i = 0) { return ((const float4*)at)[i]; }

template <int type>
__device__ __forceinline__ float4 load4(const Element<type>* at, size_t i = 0) {
  uint2 v = ((const uint2*)at)[i];
  Element<type> x = {(unsigned short)v.x}, y = {(unsigned short)(v.x >> 16)};
  Element<type> z = {(unsigned short)v.y}, w = {(unsigned short)(v.y >> 16)};
  return make_float4(x, y, z, w);
}

__device__ __forceinline__ void store4(float* at, float4 v, size_t i = 0) { ((float4*)at)[i] = v; }

// Two floats as elements, the first one in the lower half.
template <int type>
__device__ __forceinline__ unsigned pack2(float x, float y) {
  unsigned v;
  if (type == 1) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(y), "f"(x));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(y), "f"(x));
  }
  return v;
}

template <int type>
__device__ __forceinline__ void store4(Element<type>* at, float4 v, size_t i = 0) {
  ((uint2*)at)[i] = make_uint2(pack2<type>(v.x, v.y), pack2<type>(v.z, v.w));
}
