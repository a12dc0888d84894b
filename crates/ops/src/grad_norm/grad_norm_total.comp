#version 460
// The norm and the flag, from the chunks. One group of 256: each thread adds every 256th sum, then the threads' sums.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats sums;
    Words magnitudes;
    Floats norm;
    Words finite;
    uint chunks;
} args;

shared uint greatest_of[256];

void main() {
    uint thread = gl_LocalInvocationID.x;
    float sum = 0.0;
    uint greatest = 0;
    for (uint i = thread; i < args.chunks; i += 256) {
        sum += args.sums.at[i];
        greatest = max(greatest, args.magnitudes.at[i]);
    }
    greatest_of[thread] = greatest;
    // Its barriers also order the magnitudes.
    sum = group_sum(sum);
    for (uint width = 128; width > 0; width /= 2) {
        if (thread < width) greatest_of[thread] = max(greatest_of[thread], greatest_of[thread + width]);
        barrier();
    }
    if (thread == 0) {
        args.norm.at[0] = sqrt(sum);
        args.finite.at[0] = greatest_of[0] < 0x7f800000u ? 1 : 0;
    }
}
