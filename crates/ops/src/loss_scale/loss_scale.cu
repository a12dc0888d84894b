// A loss scale that the device keeps: one thread each.
extern "C" __global__ void unscale(const float* norm, const float* scale, float* y) {
  if (threadIdx.x == 0) {
    y[0] = *norm / *scale;
    y[1] = *scale;
  }
}

// The outputs may be the inputs' memory.
extern "C" __global__ void rescale(const float* scale, const unsigned* good_steps, const unsigned* finite,
                                   float* new_scale, unsigned* new_good_steps, unsigned enough, float most) {
  if (threadIdx.x != 0) return;
  float s = *scale;
  unsigned good = *good_steps + 1;
  if (*finite == 0) {
    s = fmaxf(s * 0.5f, 1.0f);
    good = 0;
  } else if (good >= enough) {
    s = fmaxf(fminf(s * 2.0f, most), s);
    good = 0;
  }
  *new_scale = s;
  *new_good_steps = good;
}
