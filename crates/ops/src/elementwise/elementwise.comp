#version 460
// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. Four elements a thread: a group's width apart, or with 16 bits
// neighbours where they are whole vectors.
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

#if STORAGE > 0
float element(float a, float b) {
    float s = args.s;
    return EXPRESSION;
}
#endif

void main() {
    uint blocks = (args.elements + 1023) / 1024;
#if STORAGE > 0
    bool whole = args.elements % 4 == 0 && aligned4(args.a) && aligned4(args.y);
#ifdef HAS_b
    whole = whole && args.period % 4 == 0 && aligned4(args.b);
#endif
    if (whole) {
        for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
            uint i = block * 256 + gl_LocalInvocationID.x;
            if (i < args.elements / 4) {
                vec4 a = GET4(Stored4(args.a), i);
                vec4 b = vec4(0.0);
#ifdef HAS_b
                b = GET4(Stored4(args.b), args.period == args.elements ? i : i % (args.period / 4));
#endif
                vec4 y = vec4(element(a.x, b.x), element(a.y, b.y), element(a.z, b.z), element(a.w, b.w));
                PUT4(Result4(args.y), i, y);
            }
        }
        return;
    }
#endif
    float s = args.s;
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
