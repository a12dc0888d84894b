#version 460
// y[group] = the sum of the group's chunk of x: each thread adds every 256th element, then the threads' sums are added.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Result y;
    uint elements;
    uint chunk;
} args;

void main() {
    uint from = gl_WorkGroupID.x * args.chunk;
    uint to = min(args.elements, from + args.chunk);
    float sum = 0.0;
    for (uint i = from + gl_LocalInvocationID.x; i < to; i += gl_WorkGroupSize.x) sum += GET(args.x, i);
    sum = group_sum(sum);
    if (gl_LocalInvocationID.x == 0) PUT(args.y, gl_WorkGroupID.x, sum);
}
