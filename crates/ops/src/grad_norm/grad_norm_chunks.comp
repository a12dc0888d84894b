#version 460
// Each chunk's sum of squares and greatest magnitude, as bits without the sign: non-finite ones are the greatest.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats g;
    Floats sums;
    Words magnitudes;
    uint elements;
} args;

shared uint greatest_of[256];

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint chunks = (args.elements + 4095) / 4096;
    for (uint chunk = gl_WorkGroupID.x; chunk < max(chunks, 1); chunk += gl_NumWorkGroups.x) {
        float sum = 0.0;
        uint greatest = 0;
        for (uint k = 0; k < 16; k++) {
            uint i = chunk * 4096 + k * 256 + thread;
            float x = i < args.elements ? args.g.at[i] : 0.0;
            sum += x * x;
            greatest = max(greatest, floatBitsToUint(x) & 0x7fffffffu);
        }
        greatest_of[thread] = greatest;
        // Its barriers also order the magnitudes.
        sum = group_sum(sum);
        for (uint width = 128; width > 0; width /= 2) {
            if (thread < width) greatest_of[thread] = max(greatest_of[thread], greatest_of[thread + width]);
            barrier();
        }
        if (thread == 0) {
            args.sums.at[chunk] = sum;
            args.magnitudes.at[chunk] = greatest_of[0];
        }
    }
}
