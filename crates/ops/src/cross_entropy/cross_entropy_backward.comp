#version 460
// dlogits = (exp(logits - lse) - onehot(target)) dloss / count. One row a group; dlogits may be logits.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats logits;
    Words targets;
    Floats lse;
    Floats count;
    Floats dloss;
    Floats dlogits;
    uint tokens;
    uint vocab;
    uint ignored;
} args;

void main() {
    uint threads = gl_WorkGroupSize.x;
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint row = token * args.vocab;
        uint target = args.targets.at[token];
        if (target == args.ignored || target >= args.vocab) {
            float fill = target == args.ignored ? 0.0 : uintBitsToFloat(0x7fc00000u);
            for (uint j = gl_LocalInvocationID.x; j < args.vocab; j += threads) args.dlogits.at[row + j] = fill;
            continue;
        }
        float scale = args.dloss.at[0] / args.count.at[0];
        float row_lse = args.lse.at[token];
        for (uint j = gl_LocalInvocationID.x; j < args.vocab; j += threads) {
            float p = exp(args.logits.at[row + j] - row_lse);
            args.dlogits.at[row + j] = (p - (j == target ? 1.0 : 0.0)) * scale;
        }
    }
}
