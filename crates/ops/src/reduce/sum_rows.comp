#version 460
// y[block, j] = sum of the rows of x in block `y`, in order. One column a thread.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats x;
    Floats y;
    uint rows;
    uint columns;
    uint block_rows;
} args;

void main() {
    uint j = gl_GlobalInvocationID.x;
    if (j >= args.columns) return;
    uint from = gl_WorkGroupID.y * args.block_rows;
    uint to = min(args.rows, from + args.block_rows);
    float sum = 0.0;
    for (uint i = from; i < to; i++) sum += args.x.at[i * args.columns + j];
    args.y.at[gl_WorkGroupID.y * args.columns + j] = sum;
}
