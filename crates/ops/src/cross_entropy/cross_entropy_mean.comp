#version 460
// The mean of the rows' losses. One group: each thread adds every 256th row, then the threads' sums are added.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats losses;
    Words targets;
    Floats loss;
    Floats count;
    uint tokens;
    uint ignored;
} args;

void main() {
    float sum = 0.0;
    float valid = 0.0;
    for (uint token = gl_LocalInvocationID.x; token < args.tokens; token += gl_WorkGroupSize.x) {
        sum += args.losses.at[token];
        valid += args.targets.at[token] != args.ignored ? 1.0 : 0.0;
    }
    sum = group_sum(sum);
    valid = group_sum(valid);
    if (gl_LocalInvocationID.x == 0) {
        args.loss.at[0] = valid > 0.0 ? sum / valid : 0.0;
        args.count.at[0] = valid;
    }
}
