#version 460
// y = applied + finite; y may be `applied`.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Words applied;
    Words finite;
    Words y;
} args;

void main() {
    if (gl_GlobalInvocationID.x == 0) args.y.at[0] = args.applied.at[0] + args.finite.at[0];
}
