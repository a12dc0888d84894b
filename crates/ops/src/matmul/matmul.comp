#version 460
// d = [c +] op(a) op(b): a group of 256 threads computes a TILE x TILE tile of one piece of the sum, term after term:
// TILE, 32, 64 or 128, changes the speed and no bit.
#include "common/common.glsl"
#include "common/stored.glsl"
#extension GL_EXT_buffer_reference_uvec2 : require

layout(constant_id = 1) const uint TRANSPOSE_A = 0;
layout(constant_id = 2) const uint TRANSPOSE_B = 0;

layout(push_constant) uniform Arguments {
    Stored a;
    Stored b;
#ifdef HAS_C
    Stored c;
#endif
    Result d;
    uint m;
    uint n;
    uint k;
    uint splits;
    uint piece;
    uint row;
} args;

// Terms of a round: 1024 elements of a and of b, four neighbours in memory a thread.
#define STEP (1024 / TILE)
// A thread computes EACH rows and columns, in vectors whose neighbours are 16 vectors apart.
#define EACH (TILE / 16)
#if TILE == 32
#define LANES 2
#define VECTOR vec2
#else
#define LANES 4
#define VECTOR vec4
#endif
#define VECTORS (EACH / LANES)
#define PITCH (TILE / LANES + 1)

// Two rounds each: one is read while the next one comes in.
shared VECTOR tile_a[2][STEP][PITCH];
shared VECTOR tile_b[2][STEP][PITCH];

// Four neighbours from `at` on, of which the first `inside` exist; zeros for the others.
vec4 load_four(Stored x, bool whole, uint at, int inside) {
    vec4 four = vec4(0.0);
    if (whole) {
        if (inside > 0) four = GET4(Stored4(x), at / 4);
    } else {
        [[unroll]] for (int e = 0; e < 4; e++) if (e < inside) four[e] = GET(x, at + e);
    }
    return four;
}

// A matrix with its tile: terms p by lines i, where `by_term` says that neighbours in memory are of neighbouring terms.
struct Side {
    bool by_term;
    bool whole;   // four neighbours exist or don't together, at multiples of their size
    uint start;   // of the product
    uint pitch;   // in memory, between terms or between lines
    uint lines;
    uint term;    // this thread's four within a round: first term and line
    uint line;
};

Side side(Stored x, bool by_term, uint product, uint lines, uint first_line) {
    uint thread = gl_LocalInvocationIndex;
    Side s;
    s.by_term = by_term;
    s.pitch = by_term ? args.k : lines;
    s.whole = s.pitch % 4 == 0 && args.piece % 4 == 0 && (uvec2(x).x & (STORAGE == 0 ? 15 : 7)) == 0;
    s.start = product * args.k * lines;
    s.lines = lines;
    s.term = by_term ? thread % (STEP / 4) * 4 : thread / (TILE / 4);
    s.line = first_line + (by_term ? thread / (STEP / 4) : thread % (TILE / 4) * 4);
    return s;
}

vec4 load_round(Stored x, Side s, uint round, uint end) {
    uint p = round + s.term;
    if (p >= end || s.line >= s.lines) return vec4(0.0);
    uint at = s.start + (s.by_term ? s.line * s.pitch + p : p * s.pitch + s.line);
    return load_four(x, s.whole, at, int(s.by_term ? end - p : s.lines - s.line));
}

#define STORE_ROUND(tile, s, first_line, four)                                                         \
    {                                                                                                  \
        uint line = s.line - (first_line);                                                             \
        if (s.by_term) {                                                                               \
            [[unroll]] for (uint e = 0; e < 4; e++) tile[s.term + e][line / LANES][line % LANES] = four[e]; \
        } else {                                                                                       \
            [[unroll]] for (uint e = 0; e < 4; e += LANES)                                             \
                [[unroll]] for (uint l = 0; l < LANES; l++) tile[s.term][(line + e) / LANES][l] = four[e + l]; \
        }                                                                                              \
    }

void main() {
    uint product = gl_WorkGroupID.z / args.splits, split = gl_WorkGroupID.z % args.splits;
    uint first_i = gl_WorkGroupID.y * TILE, first_j = gl_WorkGroupID.x * TILE;
    uint ti = gl_LocalInvocationIndex / 16, tj = gl_LocalInvocationIndex % 16;
    Side a = side(args.a, TRANSPOSE_A == 0, product, args.m, first_i);
    Side b = side(args.b, TRANSPOSE_B == 1, product, args.n, first_j);
    float sum[EACH][EACH];
    [[unroll]] for (uint x = 0; x < EACH; x++)
        [[unroll]] for (uint y = 0; y < EACH; y++) sum[x][y] = 0.0;

    uint from = split * args.piece, end = min(args.k, from + args.piece);
    vec4 next_a = load_round(args.a, a, from, end), next_b = load_round(args.b, b, from, end);
    uint turn = 0;
    for (uint round = from; round < end; round += STEP) {
        STORE_ROUND(tile_a[turn], a, first_i, next_a);
        STORE_ROUND(tile_b[turn], b, first_j, next_b);
        // Threads still reading are a round behind, in the other half.
        barrier();
        next_a = load_round(args.a, a, round + STEP, end);
        next_b = load_round(args.b, b, round + STEP, end);
        for (uint p = 0; p < STEP; p++) {
            VECTOR left[VECTORS], right[VECTORS];
            [[unroll]] for (uint v = 0; v < VECTORS; v++) {
                left[v] = tile_a[turn][p][v * 16 + ti];
                right[v] = tile_b[turn][p][v * 16 + tj];
            }
            [[unroll]] for (uint x = 0; x < EACH; x++)
                [[unroll]] for (uint y = 0; y < EACH; y++)
                    sum[x][y] = fma(left[x / LANES][x % LANES], right[y / LANES][y % LANES], sum[x][y]);
        }
        turn ^= 1;
    }

    uint batch = gl_NumWorkGroups.z / args.splits;
    uint start_d = (split * batch + product) * args.m * args.n;
    [[unroll]] for (uint x = 0; x < EACH; x++) {
        uint i = first_i + (x / LANES * 16 + ti) * LANES + x % LANES;
        [[unroll]] for (uint y = 0; y < EACH; y++) {
            uint j = first_j + (y / LANES * 16 + tj) * LANES + y % LANES;
            if (i >= args.m || j >= args.n) continue;
            float value = sum[x][y];
#ifdef HAS_C
            value += GET(args.c, args.row == 1 ? j : product * args.m * args.n + i * args.n + j);
#endif
            PUT(args.d, start_d + i * args.n + j, value);
        }
    }
}
