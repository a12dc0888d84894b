#version 460
// Rows of a table by id, one token a group; NaNs where the id isn't in the table.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Words ids;
    Floats table;
    Floats y;
    uint tokens;
    uint n;
    uint vocab;
} args;

void main() {
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint id = args.ids.at[token];
        for (uint j = gl_LocalInvocationID.x; j < args.n; j += gl_WorkGroupSize.x) {
            float value = uintBitsToFloat(0x7fc00000u);
            if (id < args.vocab) value = args.table.at[id * args.n + j];
            args.y.at[token * args.n + j] = value;
        }
    }
}
