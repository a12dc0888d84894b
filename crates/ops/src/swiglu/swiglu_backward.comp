#version 460
// The gradient of silu(g) u over rows of g and then u, four elements a thread: a group's width apart, or with 16
// bits neighbours where they are whole vectors; d may be gate_up.
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
#if STORAGE > 0
    if (args.n % 4 == 0 && aligned4(args.gate_up) && aligned4(args.dy) && aligned4(args.d)) {
        uint n = args.n / 4;
        for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
            uint i = block * 256 + gl_LocalInvocationID.x;
            if (i < args.elements / 4) {
                uint at = i + i / n * n;
                vec4 g = GET4(Stored4(args.gate_up), at);
                vec4 u = GET4(Stored4(args.gate_up), at + n);
                vec4 dy = GET4(Stored4(args.dy), i);
                vec4 s = 1.0 / (1.0 + exp(-g));
                PUT4(Result4(args.d), at, dy * u * s * (1.0 + g * (1.0 - s)));
                PUT4(Result4(args.d), at + n, dy * g * s);
            }
        }
        return;
    }
#endif
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
