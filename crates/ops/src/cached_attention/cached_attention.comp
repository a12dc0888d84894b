#version 460
// Attention over a paged cache. A group has some tokens' heads that share one of k and v, and goes through positions in
// splits of 256: scores by eight threads a key, weights by eight a row, mixes by a thread a vector of four dimensions.
// A row's sums are the same whatever other rows there are: what it doesn't see adds zeros. With WHOLE 1 a group makes its
// rows of `out`, else the splits z, z + lanes, ... of one token's rows.
#include "common/common.glsl"
#include "cached_attention/cached_attention.glsl"

layout(constant_id = 2) const uint TOKENS = 1;
layout(constant_id = 3) const uint HEADS = 1;

layout(push_constant) uniform Arguments {
    Float4s qkv;
    Float4s keys;
    Float4s values;
    Words block_table;
    Words context_lens;
    Words cu_seqlens;
    Float4s mixed;
#if WHOLE == 0
    Floats ends;
#endif
    uint tokens;
    uint heads;
    uint kv_heads;
    uint head_dim;
    uint sequences;
    uint blocks;
    uint block_size;
    uint slots;
    uint lanes;
    float scale;
} args;

const uint ROWS = TOKENS * HEADS;
const uint LANES = 8;
const uint THREADS = 128;
const uint GROUPS = THREADS / LANES;
const uint PER_LANE = (VECTORS + LANES - 1) / LANES;
// Keys whose scores eight threads make at a time.
const uint KEYS = 4;
// Threads that mix one vector of dimensions, each every so many-th quad of positions.
const uint MIXERS = THREADS / VECTORS < 8 ? THREADS / VECTORS : 8;
// Rows are at most 8, and at most 4 where heads have more than 128 dimensions.
#define MOST_ROWS 8
#define MOST_VECTORS 256

shared vec4 queries[MOST_VECTORS];
shared vec4 spare[MOST_VECTORS];
shared float scores[MOST_ROWS * SPLIT];
shared uint slot[SPLIT];
shared uint seen[MOST_ROWS];
shared float row_max[MOST_ROWS];
shared float row_sum[MOST_ROWS];
#if WHOLE == 1
shared vec4 total[MOST_VECTORS];
shared float total_max[MOST_ROWS];
shared float total_sum[MOST_ROWS];
#endif

#define EACH_ROW [[unroll]] for (uint r = 0; r < ROWS; r++)
#define EACH_KEY [[unroll]] for (uint j = 0; j < KEYS; j++)

float dot_on(vec4 a, vec4 b, float sum) {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// The scores of `keys` positions: eight threads a key, four keys at a time.
void make_scores(uint column, uint keys) {
    uint lane = gl_LocalInvocationID.x % LANES;
    uint group = gl_LocalInvocationID.x / LANES;
    uint stride = args.kv_heads * VECTORS;
    for (uint base = 0; base < keys; base += GROUPS * KEYS) {
        float sums[MOST_ROWS * KEYS];
        uint from[KEYS];
        EACH_KEY {
            uint key = base + j * GROUPS + group;
            from[j] = key < keys ? slot[key] * stride + column : 0xffffffffu;
            EACH_ROW sums[r * KEYS + j] = 0.0;
        }
        for (uint i = 0; i < PER_LANE; i++) {
            uint vector = i * LANES + lane;
            bool inside = vector < VECTORS;
            vec4 k[KEYS];
            EACH_KEY k[j] = inside && from[j] != 0xffffffffu ? args.keys.at[from[j] + vector] : vec4(0.0);
            EACH_ROW {
                vec4 q = inside ? queries[r * VECTORS + vector] : vec4(0.0);
                EACH_KEY sums[r * KEYS + j] = dot_on(q, k[j], sums[r * KEYS + j]);
            }
        }
        EACH_ROW {
            EACH_KEY {
                float sum = lanes_sum(sums[r * KEYS + j], LANES);
                uint key = base + j * GROUPS + group;
                if (lane == 0) scores[r * SPLIT + key] = sum * args.scale;
            }
        }
    }
}

// Scores to weights below each row's maximum: eight threads a row.
void make_weights(uint start, uint keys) {
    uint lane = gl_LocalInvocationID.x % LANES;
    uint row = gl_LocalInvocationID.x / LANES;
    uint seen_here = row < ROWS && seen[row] > start ? min(seen[row] - start, keys) : 0;
    float highest = LOWEST;
    for (uint k = lane; k < seen_here; k += LANES) highest = max(highest, scores[row * SPLIT + k]);
    highest = lanes_max(highest, LANES);
    float sum = 0.0;
    // Up to whole quads.
    for (uint k = lane; k < (keys + 3) / 4 * 4 && row < ROWS; k += LANES) {
        float p = k < seen_here ? exp(scores[row * SPLIT + k] - highest) : 0.0;
        scores[row * SPLIT + k] = p;
        sum += p;
    }
    sum = lanes_sum(sum, LANES);
    if (lane == 0 && row < ROWS) {
        row_max[row] = highest;
        row_sum[row] = sum;
    }
}

struct Mix {
    vec4 at[MOST_ROWS];
};

// The mixes of a split, in the first mixer's threads.
Mix make_mixes(uint column, uint keys) {
    uint vector = gl_LocalInvocationID.x % VECTORS;
    uint mixer = gl_LocalInvocationID.x / VECTORS;
    uint stride = args.kv_heads * VECTORS;
    Mix mix;
    EACH_ROW mix.at[r] = vec4(0.0);
    if (mixer < MIXERS) {
        for (uint quad = mixer; quad * 4 < keys; quad += MIXERS) {
            vec4 v[4];
            EACH_KEY {
                uint key = quad * 4 + j;
                v[j] = key < keys ? args.values.at[slot[key] * stride + column + vector] : vec4(0.0);
            }
            EACH_ROW {
                EACH_KEY mix.at[r] = fma(vec4(scores[r * SPLIT + quad * 4 + j]), v[j], mix.at[r]);
            }
        }
    }
    for (uint other = 1; other < MIXERS; other++) {
        barrier();
        if (mixer == other) {
            EACH_ROW spare[r * VECTORS + vector] = mix.at[r];
        }
        barrier();
        if (mixer == 0) {
            EACH_ROW mix.at[r] += spare[r * VECTORS + vector];
        }
    }
    return mix;
}

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint members = args.heads / args.kv_heads;
    uint tiles = (members + HEADS - 1) / HEADS;
    uint kv_head = gl_WorkGroupID.y / tiles;
    uint first_head = kv_head * members + gl_WorkGroupID.y % tiles * HEADS;
    uint last_head = min(first_head + HEADS, (kv_head + 1) * members);
    uint column = kv_head * VECTORS;
    uint positions = args.blocks * args.block_size;
    uint splits = (positions + SPLIT - 1) / SPLIT;
    uint first = gl_WorkGroupID.x * TOKENS;
    uint last = min(args.tokens, first + TOKENS);
    // One sequence after the other.
    uint token = first;
    while (token < last) {
        uvec2 found = sequence_of(args.cu_seqlens, args.sequences, args.tokens, token);
        uint sequence = found.x;
        uint end = min(found.y, last);
        bool placed = sequence < args.sequences;
        uint limit = placed ? seen_by(args.context_lens, args.cu_seqlens, positions, sequence, end - 1) : 0;
        barrier();
        for (uint n = thread; n < ROWS * VECTORS; n += THREADS) {
            uint row = n / VECTORS;
            uint at = first + row / HEADS;
            uint head = first_head + row % HEADS;
            bool mine = at >= token && at < end && head < last_head;
            uint from = (at * (args.heads + 2 * args.kv_heads) + head) * VECTORS + n % VECTORS;
            queries[n] = mine ? args.qkv.at[from] : vec4(0.0);
#if WHOLE == 1
            total[n] = vec4(0.0);
#endif
        }
        if (thread < ROWS) {
            uint at = first + thread / HEADS;
            bool mine = placed && at >= token && at < end && first_head + thread % HEADS < last_head;
            seen[thread] = mine ? seen_by(args.context_lens, args.cu_seqlens, positions, sequence, at) : 0;
#if WHOLE == 1
            total_max[thread] = LOWEST;
            total_sum[thread] = 0.0;
#endif
        }
        uint count = (limit + SPLIT - 1) / SPLIT;
#if WHOLE == 1
        for (uint split = 0; split < count; split++) {
#else
        for (uint split = gl_WorkGroupID.z; split < count; split += args.lanes) {
#endif
            uint start = split * SPLIT;
            uint keys = min(limit - start, SPLIT);
            barrier();
            for (uint k = thread; k < keys; k += THREADS) {
                uint position = start + k;
                uint block = args.block_table.at[sequence * args.blocks + position / args.block_size];
                block = min(block, args.slots / args.block_size - 1);
                slot[k] = block * args.block_size + position % args.block_size;
            }
            barrier();
            make_scores(column, keys);
            barrier();
            make_weights(start, keys);
            barrier();
            Mix mix = make_mixes(column, keys);
#if WHOLE == 1
            if (thread < VECTORS) {
                EACH_ROW {
                    uint n = r * VECTORS + thread;
                    total[n] = add_split(total[n], mix.at[r], shares(total_max[r], row_max[r]));
                }
            }
            barrier();
            if (thread < ROWS) {
                vec2 share = shares(total_max[thread], row_max[thread]);
                total_sum[thread] = add_split(total_sum[thread], row_sum[thread], share);
                total_max[thread] = max(total_max[thread], row_max[thread]);
            }
#else
            if (thread < VECTORS) {
                EACH_ROW {
                    uint to = ((token * args.heads + first_head + r) * splits + split) * VECTORS + thread;
                    if (first_head + r < last_head) args.mixed.at[to] = mix.at[r];
                }
            }
            if (thread < last_head - first_head) {
                uint to = 2 * ((token * args.heads + first_head + thread) * splits + split);
                args.ends.at[to] = row_max[thread];
                args.ends.at[to + 1] = row_sum[thread];
            }
#endif
        }
#if WHOLE == 1
        barrier();
        for (uint n = thread; n < ROWS * VECTORS; n += THREADS) {
            uint row = n / VECTORS;
            uint at = first + row / HEADS;
            uint head = first_head + row % HEADS;
            float factor = total_sum[row] > 0.0 ? 1.0 / total_sum[row] : 0.0;
            if (at >= token && at < end && head < last_head) {
                args.mixed.at[(at * args.heads + head) * VECTORS + n % VECTORS] = total[n] * factor;
            }
        }
#endif
        token = end;
    }
}
