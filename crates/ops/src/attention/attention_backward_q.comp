#version 460
// dq, and each row's dout.out for the next launch.
#include "common/common.glsl"
#include "common/stored.glsl"
#include "attention/attention.glsl"

layout(push_constant) uniform Arguments {
    Stored4 qkv;
    Words cu_seqlens;
    Stored4 mixed;
    Floats lse;
    Stored4 dmixed;
    Stored4 dqkv;
    Floats delta;
    uint tokens;
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint sequences;
    float scale;
} args;

void main() {
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
    Row mixed = load_row(args.mixed, query * width + column, placed);
    Row dmixed = load_row(args.dmixed, query * width + column, placed);
    float delta = 0.0;
    EACH_VECTOR delta += dot(mixed.at[i], dmixed.at[i]);
    delta = lanes_sum(delta, LANES);
    float lse = placed ? args.lse.at[head * args.tokens + query] : 0.0;
    Row dq = zero_row();
    for (; from < to; from += STEP) {
        barrier();
        STAGE(first_tile, args.qkv, k_column, stride, from, to)
        STAGE(second_tile, args.qkv, v_column, stride, from, to)
        barrier();
        for (uint j = 0; j < STEP; j++) {
            bool seen = placed && from + j >= sequence.x && from + j <= query;
            float score = dot_first(q, j) * args.scale;
            float dp = dot_second(dmixed, j);
            float p = seen ? exp(score - lse) : 0.0;
            float ds = p * (dp - delta) * args.scale;
            EACH_VECTOR dq.at[i] += ds * first_tile[j * PADDED + i * LANES + LANE];
        }
    }
    if (query < args.tokens) {
        store_row(args.dqkv, query * stride + column, dq, 1.0);
        if (LANE == 0) args.delta.at[head * args.tokens + query] = delta;
    }
}
