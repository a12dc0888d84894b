#version 460
// dx = rstd (g - mean(g) - xhat mean(g xhat)) with g = dy weight, one row a group; dx may be dy.
// With RESIDUAL d is added, and dx may be d. With RMS both means are 0.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Stored weight;
#ifndef RMS
    Floats mean;
#endif
    Floats rstd;
    Stored dy;
#ifdef RESIDUAL
    Stored d;
#endif
    Stored dx;
    uint rows;
    uint n;
} args;

void main() {
    uint first = gl_LocalInvocationID.x;
    uint threads = gl_WorkGroupSize.x;
    uint n = args.n;
    for (uint row = gl_WorkGroupID.x; row < args.rows; row += gl_NumWorkGroups.x) {
        uint at = row * n;
#ifdef RMS
        const float mean = 0.0;
#else
        float mean = args.mean.at[row];
#endif
        float rstd = args.rstd.at[row];
        float sum_g = 0.0;
        float sum_gx = 0.0;
        for (uint j = first; j < n; j += threads) {
            float g = GET(args.dy, at + j) * GET(args.weight, j);
            sum_g += g;
            sum_gx += g * (GET(args.x, at + j) - mean);
        }
#ifdef RMS
        const float mean_g = 0.0;
#else
        float mean_g = group_sum(sum_g) / float(n);
#endif
        float mean_gx = group_sum(sum_gx) * (rstd * rstd) / float(n);
        for (uint j = first; j < n; j += threads) {
            float g = GET(args.dy, at + j) * GET(args.weight, j);
            float dx = rstd * (g - mean_g - (GET(args.x, at + j) - mean) * mean_gx);
#ifdef RESIDUAL
            dx += GET(args.d, at + j);
#endif
            PUT(args.dx, at + j, dx);
        }
    }
}
