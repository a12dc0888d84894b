#version 460
// Causal attention over packed rows: a softmax that runs over tiles of keys.
#include "common/common.glsl"
#include "common/stored.glsl"
#include "attention/attention.glsl"

layout(push_constant) uniform Arguments {
    Stored4 qkv;
    Words cu_seqlens;
    Stored4 mixed;
    Floats lse;
    uint tokens;
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint sequences;
    float scale;
} args;

void main() {
    // The last tiles have the most keys: they start first.
    uint first = (gl_NumWorkGroups.x - 1 - gl_WorkGroupID.x) * ROWS;
    uint head = gl_WorkGroupID.y;
    uint query = first + gl_LocalInvocationID.x / LANES;
    uint width = args.heads * VECTORS;
    uint shared_width = args.kv_heads * VECTORS;
    uint stride = width + 2 * shared_width;
    uint column = head * VECTORS;
    uint k_column = width + head / (args.heads / args.kv_heads) * VECTORS;
    uint v_column = k_column + shared_width;
    uvec2 sequence = sequence_of(args.cu_seqlens, args.sequences, args.tokens, query);
    uvec2 earliest = sequence_of(args.cu_seqlens, args.sequences, args.tokens, first);
    uint from = earliest.y > 0 ? earliest.x : first;
    uint to = min(args.tokens, first + ROWS);
    bool placed = sequence.y > 0;
    Row q = load_row(args.qkv, query * stride + column, placed);
    Row mixed = zero_row();
    float highest = LOWEST;
    float sum = 0.0;
    for (; from < to; from += STEP) {
        barrier();
        STAGE(first_tile, args.qkv, k_column, stride, from, to)
        STAGE(second_tile, args.qkv, v_column, stride, from, to)
        barrier();
        float scores[STEP];
        float higher = highest;
        for (uint j = 0; j < STEP; j++) {
            bool seen = placed && from + j >= sequence.x && from + j <= query;
            float score = dot_first(q, j) * args.scale;
            scores[j] = seen ? score : LOWEST;
            higher = max(higher, scores[j]);
        }
        float factor = exp(highest - higher);
        highest = higher;
        sum *= factor;
        EACH_VECTOR mixed.at[i] *= factor;
        for (uint j = 0; j < STEP; j++) {
            bool seen = placed && from + j >= sequence.x && from + j <= query;
            float p = seen ? exp(scores[j] - highest) : 0.0;
            sum += p;
            EACH_VECTOR mixed.at[i] += p * second_tile[j * PADDED + i * LANES + LANE];
        }
    }
    if (query < args.tokens) {
        store_row(args.mixed, query * width + column, mixed, placed ? 1.0 / sum : 0.0);
        if (LANE == 0) args.lse.at[head * args.tokens + query] = placed ? highest + log(sum) : 0.0;
    }
}
