#version 460
// y[i] = the smallest j whose x[i, j] is largest. A group a row: each thread takes every 256th column, then a tree.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Words y;
    uint rows;
    uint n;
} args;

shared float best[256];
shared uint at[256];

void main() {
    uint t = gl_LocalInvocationIndex;
    for (uint row = gl_WorkGroupID.x; row < args.rows; row += gl_NumWorkGroups.x) {
        float mine = uintBitsToFloat(0xff800000u);
        uint column = 0xffffffffu;
        for (uint j = t; j < args.n; j += 256) {
            float value = GET(args.x, row * args.n + j);
            if (value > mine) {
                mine = value;
                column = j;
            }
        }
        best[t] = mine;
        at[t] = column;
        barrier();
        for (uint half_ = 128; half_ > 0; half_ /= 2) {
            if (t < half_ && (best[t + half_] > best[t] || (best[t + half_] == best[t] && at[t + half_] < at[t]))) {
                best[t] = best[t + half_];
                at[t] = at[t + half_];
            }
            barrier();
        }
        if (t == 0) args.y.at[row] = at[0] == 0xffffffffu ? 0 : at[0];
        barrier();
    }
}
