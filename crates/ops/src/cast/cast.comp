#version 460
// y[i] = x[i] with another element type. Four elements a thread, a group's width apart.
#include "common/common.glsl"
#include "common/narrow.glsl"

layout(push_constant) uniform Arguments {
#if defined(TO_BF16) || defined(TO_F16)
    Floats x;
    Halves y;
#else
    Halves x;
    Floats y;
#endif
    uint elements;
} args;

void main() {
    uint blocks = (args.elements + 1023) / 1024;
    for (uint block = gl_WorkGroupID.x; block < blocks; block += gl_NumWorkGroups.x) {
        [[unroll]] for (uint k = 0; k < 4; k++) {
            uint i = block * 1024 + k * 256 + gl_LocalInvocationID.x;
            if (i < args.elements) {
#if defined(TO_BF16)
                args.y.at[i] = uint16_t(bf16_of(args.x.at[i]));
#elif defined(TO_F16)
                args.y.at[i] = uint16_t(f16_of(args.x.at[i]));
#elif defined(FROM_BF16)
                args.y.at[i] = float_of_bf16(uint(args.x.at[i]));
#else
                args.y.at[i] = float_of_f16(uint(args.x.at[i]));
#endif
            }
        }
    }
}
