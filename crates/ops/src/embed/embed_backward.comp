#version 460
// One row of the table a group of 256, at most 2048 columns at a time: it reads 256 ids at a time and adds the rows of dy
// with its own, in order.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Words ids;
    Stored dy;
    Stored dtable;
    uint tokens;
    uint n;
    uint vocab;
} args;

shared uint found[8];

void main() {
    uint thread = gl_LocalInvocationID.x;
    for (uint row = gl_WorkGroupID.x; row < args.vocab; row += gl_NumWorkGroups.x) {
        for (uint columns = 0; columns < args.n; columns += 2048) {
            uint first = columns + thread;
            float sums[8];
            [[unroll]] for (uint k = 0; k < 8; k++) sums[k] = 0.0;
            for (uint from = 0; from < args.tokens; from += 256) {
                barrier();
                if (thread < 8) found[thread] = 0;
                barrier();
                bool mine = from + thread < args.tokens && args.ids.at[from + thread] == row;
                if (mine) atomicOr(found[thread >> 5], 1u << (thread & 31));
                barrier();
                for (uint word = 0; word < 8; word++) {
                    for (uint left = found[word]; left != 0; left &= left - 1) {
                        uint at = (from + word * 32 + uint(findLSB(left))) * args.n;
                        [[unroll]] for (uint k = 0; k < 8; k++) {
                            uint j = first + k * 256;
                            if (j < args.n) sums[k] += GET(args.dy, at + j);
                        }
                    }
                }
            }
            [[unroll]] for (uint k = 0; k < 8; k++) {
                uint j = first + k * 256;
                if (j < args.n) PUT(args.dtable, row * args.n + j, sums[k]);
            }
        }
    }
}
