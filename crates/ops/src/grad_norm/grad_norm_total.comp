#version 460
// The norm, the flag and the last place that isn't finite, from the chunks. One group of 256: each thread adds every
// 256th sum, then the threads' sums.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats sums;
    Words ends;
    Floats norm;
    Words finite;
    Words place;
    uint chunks;
} args;

shared uint end_of[256];

void main() {
    uint thread = gl_LocalInvocationID.x;
    float sum = 0.0;
    uint end = 0;
    for (uint i = thread; i < args.chunks; i += 256) {
        sum += args.sums.at[i];
        end = max(end, args.ends.at[i]);
    }
    end_of[thread] = end;
    // Its barriers also order the ends.
    sum = group_sum(sum);
    for (uint width = 128; width > 0; width /= 2) {
        if (thread < width) end_of[thread] = max(end_of[thread], end_of[thread + width]);
        barrier();
    }
    if (thread == 0) {
        args.norm.at[0] = sqrt(sum);
        args.finite.at[0] = end_of[0] == 0 ? 1 : 0;
        args.place.at[0] = end_of[0] - 1;
    }
}
