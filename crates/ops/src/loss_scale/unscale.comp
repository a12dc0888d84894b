#version 460
// y = (norm / scale, scale). One thread.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats norm;
    Floats scale;
    Floats y;
} args;

void main() {
    if (gl_GlobalInvocationID.x == 0) {
        float scale = args.scale.at[0];
        float norm = args.norm.at[0];
        args.y.at[0] = not_finite(norm) ? norm : norm / scale;
        args.y.at[1] = scale;
    }
}
