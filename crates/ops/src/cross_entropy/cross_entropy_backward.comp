#version 460
// dlogits = (exp(logits - lse) - onehot(target)) dloss / count. One row a group; dlogits may be logits.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored logits;
    Words targets;
    Floats lse;
    Floats count;
    Floats dloss;
    Stored dlogits;
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
            for (uint j = gl_LocalInvocationID.x; j < args.vocab; j += threads) PUT(args.dlogits, row + j, fill);
            continue;
        }
        float scale = args.dloss.at[0] / args.count.at[0];
        float row_lse = args.lse.at[token];
        for (uint j = gl_LocalInvocationID.x; j < args.vocab; j += threads) {
            float p = exp(GET(args.logits, row + j) - row_lse);
            PUT(args.dlogits, row + j, (p - (j == target ? 1.0 : 0.0)) * scale);
        }
    }
}
