#version 460
// h = x + bias, y = gelu(h), one element a thread; h may be x.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats x;
    Floats bias;
    Floats h;
    Floats y;
    uint elements;
    uint columns;
} args;

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i >= args.elements) return;
    float a = args.x.at[i] + args.bias.at[i % args.columns];
    args.h.at[i] = a;
    args.y.at[i] = 0.5 * a * (1.0 + erf_(a * 0.70710678));
}
