#version 460
// A block's sums of dy xhat and dy over 64 rows, for 32 columns: 8 threads a column take every eighth row, then are added
// in order. With RMS the means are 0 and dbias isn't there.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
#ifndef RMS
    Floats mean;
#endif
    Floats rstd;
    Stored dy;
    Result dweight;
#ifndef RMS
    Result dbias;
#endif
    uint rows;
    uint n;
} args;

shared float parts[2][8][32];

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint column = thread & 31;
    uint lane = thread >> 5;
    uint j = gl_WorkGroupID.x * 32 + column;
    float sum_weight = 0.0;
    float sum_bias = 0.0;
    for (uint k = 0; k < 8; k++) {
        uint row = gl_WorkGroupID.y * 64 + k * 8 + lane;
        if (row < args.rows && j < args.n) {
            uint at = row * args.n + j;
            float g = GET(args.dy, at);
            sum_bias += g;
#ifdef RMS
            sum_weight += g * (GET(args.x, at) * args.rstd.at[row]);
#else
            sum_weight += g * ((GET(args.x, at) - args.mean.at[row]) * args.rstd.at[row]);
#endif
        }
    }
    parts[0][lane][column] = sum_weight;
    parts[1][lane][column] = sum_bias;
    barrier();
    if (lane < 2 && j < args.n) {
        float sum = 0.0;
        for (uint k = 0; k < 8; k++) sum += parts[lane][k][column];
        uint at = gl_WorkGroupID.y * args.n + j;
        if (lane == 0) PUT(args.dweight, at, sum);
#ifndef RMS
        else PUT(args.dbias, at, sum);
#endif
    }
}
