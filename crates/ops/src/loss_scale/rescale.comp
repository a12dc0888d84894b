#version 460
// The next scale and count of finite steps; they may be the old ones' memory. One thread.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats scale;
    Words good_steps;
    Words finite;
    Floats new_scale;
    Words new_good_steps;
    uint enough;
    float most;
} args;

void main() {
    if (gl_GlobalInvocationID.x != 0) return;
    float scale = args.scale.at[0];
    uint good = args.good_steps.at[0] + 1;
    if (args.finite.at[0] == 0) {
        scale = max(scale * 0.5, 1.0);
        good = 0;
    } else if (good >= args.enough) {
        scale = max(min(scale * 2.0, args.most), scale);
        good = 0;
    }
    args.new_scale.at[0] = scale;
    args.new_good_steps.at[0] = good;
}
