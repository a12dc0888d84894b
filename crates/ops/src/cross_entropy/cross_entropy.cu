// Cross-entropy: each row's logsumexp and loss, the mean in a fixed order, the gradient.
#define LOWEST -3.402823466e38f

// One row a group, read once: each thread keeps a maximum and a sum of exponentials below it.
__device__ __forceinline__ void cross_entropy_rows_body(const Stored* logits, const unsigned* targets, float* lse,
                                                        float* losses, unsigned tokens, unsigned vocab,
                                                        unsigned ignore) {
  unsigned thread = threadIdx.x, threads = blockDim.x;
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    const Stored* row = logits + (size_t)token * vocab;
    float highest = LOWEST, sum = 0.0f;
    for (unsigned from = thread; from < vocab; from += 4 * threads) {
      float x[4], higher = highest;
#pragma unroll
      for (unsigned i = 0; i < 4; i++) {
        unsigned j = from + i * threads;
        x[i] = j < vocab ? row[j] : -INFINITY_;
        higher = fmaxf(higher, x[i]);
      }
      sum *= expf(highest - higher);
      highest = higher;
#pragma unroll
      for (unsigned i = 0; i < 4; i++) sum += expf(x[i] - highest);
    }
    float row_max = block_max(highest);
    float row_lse = row_max + logf(block_sum(sum * expf(highest - row_max)));
    if (thread == 0) {
      unsigned target = targets[token];
      lse[token] = row_lse;
      losses[token] = target == ignore ? 0.0f : (target < vocab ? row_lse - row[target] : NAN_);
    }
  }
}

extern "C" __global__ void cross_entropy_rows(const Stored* logits, const unsigned* targets, float* lse, float* losses,
                                              unsigned tokens, unsigned vocab, unsigned ignore) {
  cross_entropy_rows_body(logits, targets, lse, losses, tokens, vocab, ignore);
}

// One group: each thread adds every 256th row, then the threads' sums are added.
__device__ __forceinline__ void cross_entropy_mean_body(const float* losses, const unsigned* targets, float* loss,
                                                        float* count, unsigned tokens, unsigned ignore) {
  float sum = 0.0f, valid = 0.0f;
  for (unsigned token = threadIdx.x; token < tokens; token += blockDim.x) {
    sum += losses[token];
    valid += targets[token] != ignore ? 1.0f : 0.0f;
  }
  sum = block_sum(sum);
  valid = block_sum(valid);
  if (threadIdx.x == 0) {
    *loss = valid > 0.0f ? sum / valid : 0.0f;
    *count = valid;
  }
}

extern "C" __global__ void cross_entropy_mean(const float* losses, const unsigned* targets, float* loss, float* count,
                                              unsigned tokens, unsigned ignore) {
  cross_entropy_mean_body(losses, targets, loss, count, tokens, ignore);
}

// One row a group; dlogits may be logits.
__device__ __forceinline__ void cross_entropy_backward_body(const Stored* logits, const unsigned* targets,
                                                            const float* lse, const float* count, const float* dloss,
                                                            Stored* dlogits, unsigned tokens, unsigned vocab,
                                                            unsigned ignore) {
  for (unsigned token = blockIdx.x; token < tokens; token += gridDim.x) {
    size_t row = (size_t)token * vocab;
    unsigned target = targets[token];
    if (target == ignore || target >= vocab) {
      float fill = target == ignore ? 0.0f : NAN_;
      for (unsigned j = threadIdx.x; j < vocab; j += blockDim.x) dlogits[row + j] = fill;
      continue;
    }
    float scale = *dloss / *count, row_lse = lse[token];
#pragma unroll 4
    for (unsigned j = threadIdx.x; j < vocab; j += blockDim.x) {
      dlogits[row + j] = (expf(logits[row + j] - row_lse) - (j == target ? 1.0f : 0.0f)) * scale;
    }
  }
}

extern "C" __global__ void cross_entropy_backward(const Stored* logits, const unsigned* targets, const float* lse,
                                                  const float* count, const float* dloss, Stored* dlogits,
                                                  unsigned tokens, unsigned vocab, unsigned ignore) {
  cross_entropy_backward_body(logits, targets, lse, count, dloss, dlogits, tokens, vocab, ignore);
}
