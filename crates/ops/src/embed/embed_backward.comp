#version 460
// One row of the table a group of 256: it reads 256 ids at a time and adds the rows of dy with its own, in order.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Words ids;
    Floats dy;
    Floats dtable;
    uint tokens;
    uint n;
    uint vocab;
} args;

shared uint found[8];

void main() {
    uint thread = gl_LocalInvocationID.x;
    for (uint row = gl_WorkGroupID.x; row < args.vocab; row += gl_NumWorkGroups.x) {
        uint at = row * args.n;
        for (uint j = thread; j < args.n; j += 256) args.dtable.at[at + j] = 0.0;
        for (uint from = 0; from < args.tokens; from += 256) {
            barrier();
            if (thread < 8) found[thread] = 0;
            barrier();
            bool mine = from + thread < args.tokens && args.ids.at[from + thread] == row;
            if (mine) atomicOr(found[thread >> 5], 1u << (thread & 31));
            barrier();
            uint any = 0;
            for (uint word = 0; word < 8; word++) any |= found[word];
            if (any == 0) continue;
            for (uint j = thread; j < args.n; j += 256) {
                float sum = args.dtable.at[at + j];
                for (uint word = 0; word < 8; word++) {
                    for (uint left = found[word]; left != 0; left &= left - 1) {
                        sum += args.dy.at[(from + word * 32 + uint(findLSB(left))) * args.n + j];
                    }
                }
                args.dtable.at[at + j] = sum;
            }
        }
    }
}
