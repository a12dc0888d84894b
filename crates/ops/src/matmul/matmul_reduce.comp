#version 460
// d[i] = [c +] the partial sums of element i, in order. In strides of all threads.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Floats partial;
#ifdef HAS_C
    Stored c;
#endif
    Stored d;
    uint elements;
    uint n;
    uint splits;
    uint row;
} args;

void main() {
    uint threads = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.elements; i += threads) {
        float sum = 0.0;
        for (uint s = 0; s < args.splits; s++) sum += args.partial.at[s * args.elements + i];
#ifdef HAS_C
        sum += GET(args.c, args.row == 1 ? i % args.n : i);
#endif
        PUT(args.d, i, sum);
    }
}
