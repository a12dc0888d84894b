#version 460
// Layer norm, one row a group. With RESIDUAL the row is s = x + r, where s may be x or r. With RMS it is RMS norm: nothing
// is subtracted, and there is no bias.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats x;
#ifdef RESIDUAL
    Floats r;
#endif
    Floats weight;
#ifndef RMS
    Floats bias;
#endif
#ifdef RESIDUAL
    Floats s;
#endif
    Floats y;
#ifndef RMS
    Floats mean;
#endif
    Floats rstd;
    uint rows;
    uint n;
    float eps;
} args;

void main() {
    uint first = gl_LocalInvocationID.x;
    uint threads = gl_WorkGroupSize.x;
    uint n = args.n;
#ifdef RESIDUAL
    Floats x = args.s;
#else
    Floats x = args.x;
#endif
    for (uint row = gl_WorkGroupID.x; row < args.rows; row += gl_NumWorkGroups.x) {
        uint at = row * n;
        float total = 0.0;
        for (uint j = first; j < n; j += threads) {
            float value = args.x.at[at + j];
#ifdef RESIDUAL
            value += args.r.at[at + j];
            args.s.at[at + j] = value;
#endif
            total += value;
        }
#ifdef RMS
        const float mean = 0.0;
#else
        float mean = group_sum(total) / float(n);
#endif
        total = 0.0;
        for (uint j = first; j < n; j += threads) {
            float away = x.at[at + j] - mean;
            total += away * away;
        }
        float rstd = 1.0 / sqrt(group_sum(total) / float(n) + args.eps);
        for (uint j = first; j < n; j += threads) {
#ifdef RMS
            args.y.at[at + j] = x.at[at + j] * rstd * args.weight.at[j];
#else
            args.y.at[at + j] = (x.at[at + j] - mean) * rstd * args.weight.at[j] + args.bias.at[j];
#endif
        }
        if (first == 0) {
#ifndef RMS
            args.mean.at[row] = mean;
#endif
            args.rstd.at[row] = rstd;
        }
    }
}
