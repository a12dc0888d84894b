#version 460
// The gradient of silu(g) u over rows of g and then u, four elements a thread, a group's width apart; d may be gate_up.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored gate_up;
    Stored dy;
    Stored d;
    uint elements;
    uint n;
} args;

void main() {
    uint blocks = (args.elements + 1023) / 1024;
    for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
        [[unroll]] for (uint k = 0; k < 4; k++) {
            uint i = block * 1024 + k * 256 + gl_LocalInvocationID.x;
            if (i < args.elements) {
                uint at = i + i / args.n * args.n;
                float g = GET(args.gate_up, at);
                float u = GET(args.gate_up, at + args.n);
                float dy = GET(args.dy, i);
                float s = 1.0 / (1.0 + exp(-g));
                PUT(args.d, at, dy * u * s * (1.0 + g * (1.0 - s)));
                PUT(args.d, at + args.n, dy * g * s);
            }
        }
    }
}
