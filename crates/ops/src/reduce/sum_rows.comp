#version 460
// y[block, j] = sum of the rows of x in block `y`, for 32 columns a group: 8 threads a column take every eighth row, then
// are added in order.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Result y;
    uint rows;
    uint columns;
    uint block_rows;
} args;

shared float parts[8][32];

void main() {
    uint column = gl_LocalInvocationID.x & 31;
    uint lane = gl_LocalInvocationID.x >> 5;
    uint j = gl_WorkGroupID.x * 32 + column;
    uint from = gl_WorkGroupID.y * args.block_rows;
    uint to = min(args.rows, from + args.block_rows);
    float sum = 0.0;
    if (j < args.columns) {
        for (uint i = from + lane; i < to; i += 8) sum += GET(args.x, i * args.columns + j);
    }
    parts[lane][column] = sum;
    barrier();
    if (lane == 0 && j < args.columns) {
        for (uint k = 1; k < 8; k++) sum += parts[k][column];
        PUT(args.y, gl_WorkGroupID.y * args.columns + j, sum);
    }
}
