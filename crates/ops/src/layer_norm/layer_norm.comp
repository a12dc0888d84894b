#version 460
// Layer norm, one row a group. With RESIDUAL the row is s = x + r, where s may be x or r. With RMS it is RMS norm: nothing
// is subtracted, and there is no bias.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
#ifdef RESIDUAL
    Stored r;
#endif
    Stored weight;
#ifndef RMS
    Stored bias;
#endif
#ifdef RESIDUAL
    Stored s;
#endif
    Stored y;
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
    Stored x = args.s;
#else
    Stored x = args.x;
#endif
    for (uint row = gl_WorkGroupID.x; row < args.rows; row += gl_NumWorkGroups.x) {
        uint at = row * n;
        float total = 0.0;
        for (uint j = first; j < n; j += threads) {
            float value = GET(args.x, at + j);
#ifdef RESIDUAL
            value = ROUNDED(value + GET(args.r, at + j));
            PUT(args.s, at + j, value);
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
            float away = GET(x, at + j) - mean;
            total += away * away;
        }
        float rstd = 1.0 / sqrt(group_sum(total) / float(n) + args.eps);
        for (uint j = first; j < n; j += threads) {
#ifdef RMS
            PUT(args.y, at + j, GET(x, at + j) * rstd * GET(args.weight, j));
#else
            PUT(args.y, at + j, (GET(x, at + j) - mean) * rstd * GET(args.weight, j) + GET(args.bias, j));
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
