#version 460
// Rows of k and v to their slots, one token a group.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats qkv;
    Words slot_mapping;
    Floats key_cache;
    Floats value_cache;
    uint tokens;
    uint slots;
    uint width;
    uint columns;
} args;

void main() {
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint slot = args.slot_mapping.at[token];
        if (slot >= args.slots) continue;
        uint from = token * args.columns + args.columns - 2 * args.width;
        uint to = slot * args.width;
        for (uint j = gl_LocalInvocationID.x; j < args.width; j += gl_WorkGroupSize.x) {
            args.key_cache.at[to + j] = args.qkv.at[from + j];
            args.value_cache.at[to + j] = args.qkv.at[from + args.width + j];
        }
    }
}
