#version 460
// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. Four elements a thread, a group's width apart.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored a;
#ifdef HAS_b
    Stored b;
#endif
    Stored y;
    uint elements;
    uint period;
    float s;
} args;

void main() {
    float s = args.s;
    uint blocks = (args.elements + 1023) / 1024;
    for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
        [[unroll]] for (uint k = 0; k < 4; k++) {
            uint i = block * 1024 + k * 256 + gl_LocalInvocationID.x;
            if (i < args.elements) {
                float a = GET(args.a, i);
#ifdef HAS_b
                float b = GET(args.b, args.period == args.elements ? i : i % args.period);
#endif
                PUT(args.y, i, EXPRESSION);
            }
        }
    }
}
