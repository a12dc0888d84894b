#version 460
// y[i] = EXPRESSION over a = a[i], b = b[i % period] and s. In strides of all threads.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats a;
#ifdef HAS_b
    Floats b;
#endif
    Floats y;
    uint elements;
    uint period;
    float s;
} args;

void main() {
    uint threads = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.elements; i += threads) {
        float a = args.a.at[i];
#ifdef HAS_b
        float b = args.b.at[args.period == args.elements ? i : i % args.period];
#endif
        float s = args.s;
        args.y.at[i] = EXPRESSION;
    }
}
