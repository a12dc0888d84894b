#version 460
// Rows of a table by id, one token a group; NaNs where the id isn't in the table.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Words ids;
    Stored table;
    Stored y;
    uint tokens;
    uint n;
    uint vocab;
} args;

void main() {
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint id = args.ids.at[token];
        for (uint j = gl_LocalInvocationID.x; j < args.n; j += gl_WorkGroupSize.x) {
            float value = uintBitsToFloat(0x7fc00000u);
            if (id < args.vocab) value = GET(args.table, id * args.n + j);
            PUT(args.y, token * args.n + j, value);
        }
    }
}
