// Rows of k and v to their slots, one token a group.
__device__ __forceinline__ void kv_append_body(const float* qkv, const unsigned* slot_mapping, float* key_cache,
                                               float* value_cache, unsigned tokens, unsigned slots, unsigned width,
                                               unsigned columns) {
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    unsigned slot = slot_mapping[token];
    if (slot >= slots) continue;
    const float* from = qkv + (size_t)token * columns + columns - 2 * width;
    size_t to = (size_t)slot * width;
    for (unsigned j = threadIdx.x; j < width; j += blockDim.x) {
      key_cache[to + j] = from[j];
      value_cache[to + j] = from[width + j];
    }
  }
}

extern "C" __global__ void kv_append(const float* qkv, const unsigned* slot_mapping, float* key_cache,
                                     float* value_cache, unsigned tokens, unsigned slots, unsigned width,
                                     unsigned columns) {
  kv_append_body(qkv, slot_mapping, key_cache, value_cache, tokens, slots, width, columns);
}
