#version 460
// h = x + bias, y = gelu(h), four elements a thread: a group's width apart, or with 16 bits neighbours where they are whole
// vectors. h may be x.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Stored bias;
    Stored h;
    Stored y;
    uint elements;
    uint columns;
} args;

#if STORAGE > 0
vec4 gelu_of(vec4 a) {
    vec4 b = a * 0.70710678;
    return 0.5 * a * (1.0 + vec4(erf_(b.x), erf_(b.y), erf_(b.z), erf_(b.w)));
}
#endif

void main() {
    uint blocks = (args.elements + 1023) / 1024;
#if STORAGE > 0
    if (args.columns % 4 == 0 && aligned4(args.x) && aligned4(args.bias) && aligned4(args.h) && aligned4(args.y)) {
        for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
            uint i = block * 256 + gl_LocalInvocationID.x;
            if (i < args.elements / 4) {
                vec4 a = GET4(Stored4(args.x), i) + GET4(Stored4(args.bias), i % (args.columns / 4));
                a = vec4(ROUNDED(a.x), ROUNDED(a.y), ROUNDED(a.z), ROUNDED(a.w));
                PUT4(Result4(args.h), i, a);
                PUT4(Result4(args.y), i, gelu_of(a));
            }
        }
        return;
    }
#endif
    for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
        [[unroll]] for (uint k = 0; k < 4; k++) {
            uint i = block * 1024 + k * 256 + gl_LocalInvocationID.x;
            if (i < args.elements) {
                float a = ROUNDED(GET(args.x, i) + GET(args.bias, i % args.columns));
                PUT(args.h, i, a);
                PUT(args.y, i, 0.5 * a * (1.0 + erf_(a * 0.70710678)));
            }
        }
    }
}
