#version 460
// Each row's logsumexp and loss. One row a group, read once: each thread keeps a maximum and a sum of exponentials below it.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored logits;
    Words targets;
    Floats lse;
    Floats losses;
    uint tokens;
    uint vocab;
    uint ignored;
} args;

const float LOWEST = -3.402823466e38;

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint threads = gl_WorkGroupSize.x;
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint row = token * args.vocab;
        float highest = LOWEST;
        float sum = 0.0;
        for (uint from = thread; from < args.vocab; from += 4 * threads) {
            float x[4];
            float higher = highest;
            for (uint i = 0; i < 4; i++) {
                uint j = from + i * threads;
                x[i] = j < args.vocab ? GET(args.logits, row + j) : LOWEST;
                higher = max(higher, x[i]);
            }
            sum *= exp(highest - higher);
            highest = higher;
            for (uint i = 0; i < 4; i++) {
                if (from + i * threads < args.vocab) sum += exp(x[i] - highest);
            }
        }
        float row_max = group_max(highest);
        float row_sum = group_sum(sum * exp(highest - row_max));
        if (thread == 0) {
            uint target = args.targets.at[token];
            float row_lse = row_max + log(row_sum);
            args.lse.at[token] = row_lse;
            float loss = 0.0;
            if (target != args.ignored) {
                loss = target < args.vocab ? row_lse - GET(args.logits, row + target) : uintBitsToFloat(0x7fc00000u);
            }
            args.losses.at[token] = loss;
        }
    }
}
