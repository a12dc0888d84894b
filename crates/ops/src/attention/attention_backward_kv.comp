#version 460
// dk and dv: each row is a key, and the queries that see it go by, of all heads that share it.
#include "common/common.glsl"
#include "common/stored.glsl"
#include "attention/attention.glsl"

layout(push_constant) uniform Arguments {
    Stored4 qkv;
    Words cu_seqlens;
    Floats lse;
    Stored4 dmixed;
    Floats delta;
    Stored4 dqkv;
    uint tokens;
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint sequences;
    float scale;
} args;

shared float tile_lse[STEP];
shared float tile_delta[STEP];

void main() {
    uint first = gl_WorkGroupID.x * ROWS;
    uint group = args.heads / args.kv_heads;
    uint thread = gl_LocalInvocationID.x;
    uint key = first + thread / LANES;
    uint width = args.heads * VECTORS;
    uint shared_width = args.kv_heads * VECTORS;
    uint stride = width + 2 * shared_width;
    uint k_column = width + gl_WorkGroupID.y * VECTORS;
    uint v_column = k_column + shared_width;
    uint last = min(args.tokens, first + ROWS) - 1;
    uvec2 sequence = sequence_of(args.cu_seqlens, args.sequences, args.tokens, key);
    uvec2 latest = sequence_of(args.cu_seqlens, args.sequences, args.tokens, last);
    uint to = latest.y > 0 ? latest.y : last + 1;
    bool placed = sequence.y > 0;
    Row k = load_row(args.qkv, key * stride + k_column, placed);
    Row v = load_row(args.qkv, key * stride + v_column, placed);
    Row dk = zero_row();
    Row dv = zero_row();
    // One head of q after the other.
    for (uint head = gl_WorkGroupID.y * group; head < (gl_WorkGroupID.y + 1) * group; head++) {
        uint column = head * VECTORS;
        for (uint from = first; from < to; from += STEP) {
            barrier();
            STAGE(first_tile, args.qkv, column, stride, from, to)
            STAGE(second_tile, args.dmixed, column, width, from, to)
            if (thread < STEP) {
                uint query = head * args.tokens + from + thread;
                bool inside = from + thread < to;
                tile_lse[thread] = inside ? args.lse.at[query] : 0.0;
                tile_delta[thread] = inside ? args.delta.at[query] : 0.0;
            }
            barrier();
            for (uint j = 0; j < STEP; j++) {
                bool seen = placed && from + j >= key && from + j < sequence.y;
                float score = dot_first(k, j) * args.scale;
                float dp = dot_second(v, j);
                float p = seen ? exp(score - tile_lse[j]) : 0.0;
                float ds = p * (dp - tile_delta[j]) * args.scale;
                EACH_VECTOR {
                    uint vector = j * PADDED + i * LANES + LANE;
                    dv.at[i] += p * second_tile[vector];
                    dk.at[i] += ds * first_tile[vector];
                }
            }
        }
    }
    if (key < args.tokens) {
        uint row = key * stride;
        store_row(args.dqkv, row + k_column, dk, 1.0);
        store_row(args.dqkv, row + v_column, dv, 1.0);
    }
}
