#version 460
// Adds up the splits of one row, in order: a group has a head of a token.
#include "common/common.glsl"
#include "cached_attention/cached_attention.glsl"

layout(push_constant) uniform Arguments {
    Words context_lens;
    Words cu_seqlens;
    Float4s mixes;
    Floats ends;
    Float4s mixed;
    uint tokens;
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint sequences;
    uint blocks;
    uint block_size;
} args;

void main() {
    uint token = gl_WorkGroupID.x;
    uint positions = args.blocks * args.block_size;
    uint splits = (positions + SPLIT - 1) / SPLIT;
    uint sequence = sequence_of(args.cu_seqlens, args.sequences, args.tokens, token).x;
    uint seen = 0;
    if (sequence < args.sequences) {
        seen = seen_by(args.context_lens, args.cu_seqlens, positions, sequence, token);
    }
    uint count = (seen + SPLIT - 1) / SPLIT;
    uint row = token * args.heads + gl_WorkGroupID.y;
    for (uint vector = gl_LocalInvocationID.x; vector < VECTORS; vector += gl_WorkGroupSize.x) {
        vec4 total = vec4(0.0);
        float highest = LOWEST;
        float sum = 0.0;
        for (uint split = 0; split < count; split++) {
            uint at = row * splits + split;
            float of = args.ends.at[2 * at];
            vec2 share = shares(highest, of);
            total = add_split(total, args.mixes.at[at * VECTORS + vector], share);
            sum = add_split(sum, args.ends.at[2 * at + 1], share);
            highest = max(highest, of);
        }
        args.mixed.at[row * VECTORS + vector] = total * (sum > 0.0 ? 1.0 / sum : 0.0);
    }
}
