#version 460
// h = x + bias, y = gelu(h), four elements a thread, a group's width apart; h may be x.
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

void main() {
    uint blocks = (args.elements + 1023) / 1024;
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
