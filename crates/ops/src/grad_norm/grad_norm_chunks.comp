#version 460
// Each chunk's sum of squares and the end of what isn't finite in it (0: all is).
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats g;
    Floats sums;
    Words ends;
    uint elements;
} args;

shared uint end_of[256];

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint chunks = (args.elements + 4095) / 4096;
    for (uint chunk = gl_WorkGroupID.x; chunk < max(chunks, 1); chunk += gl_NumWorkGroups.x) {
        float sum = 0.0;
        uint end = 0;
        for (uint k = 0; k < 16; k++) {
            uint i = chunk * 4096 + k * 256 + thread;
            float x = i < args.elements ? args.g.at[i] : 0.0;
            sum += x * x;
            if ((floatBitsToUint(x) & 0x7fffffffu) >= 0x7f800000u) end = max(end, i + 1);
        }
        end_of[thread] = end;
        // Its barriers also order the ends.
        sum = group_sum(sum);
        for (uint width = 128; width > 0; width /= 2) {
            if (thread < width) end_of[thread] = max(end_of[thread], end_of[thread + width]);
            barrier();
        }
        if (thread == 0) {
            args.sums.at[chunk] = sum;
            args.ends.at[chunk] = end_of[0];
        }
    }
}
