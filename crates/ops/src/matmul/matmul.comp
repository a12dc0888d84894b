#version 460
// d = [c +] op(a) op(b): a group of 256 threads computes a 64 x 64 tile of one piece of the sum.
#include "common/common.glsl"

layout(constant_id = 1) const uint TRANSPOSE_A = 0;
layout(constant_id = 2) const uint TRANSPOSE_B = 0;

layout(push_constant) uniform Arguments {
    Floats a;
    Floats b;
#ifdef HAS_C
    Floats c;
#endif
    Floats d;
    uint m;
    uint n;
    uint k;
    uint splits;
    uint piece;
    uint row;
} args;

shared float tile_a[16][65];
shared float tile_b[16][65];

void main() {
    uint product = gl_WorkGroupID.z / args.splits, split = gl_WorkGroupID.z % args.splits;
    uint batch = gl_NumWorkGroups.z / args.splits;
    uint i0 = gl_WorkGroupID.y * 64, j0 = gl_WorkGroupID.x * 64;
    uint thread = gl_LocalInvocationIndex, ti = thread / 16, tj = thread % 16;
    uint m = args.m, n = args.n, k = args.k;
    uint start_a = product * m * k, start_b = product * k * n;
    float sum[4][4];
    for (uint x = 0; x < 4; x++)
        for (uint y = 0; y < 4; y++) sum[x][y] = 0.0;
    uint end = min(k, (split + 1) * args.piece);
    for (uint p0 = split * args.piece; p0 < end; p0 += 16) {
        for (uint e = thread; e < 1024; e += 256) {
            uint p = TRANSPOSE_A == 1 ? e / 64 : e % 16, i = TRANSPOSE_A == 1 ? e % 64 : e / 16;
            float left = 0.0;
            if (p0 + p < end && i0 + i < m)
                left = args.a.at[start_a + (TRANSPOSE_A == 1 ? (p0 + p) * m + i0 + i : (i0 + i) * k + p0 + p)];
            tile_a[p][i] = left;
            uint q = TRANSPOSE_B == 1 ? e % 16 : e / 64, j = TRANSPOSE_B == 1 ? e / 16 : e % 64;
            float right = 0.0;
            if (p0 + q < end && j0 + j < n)
                right = args.b.at[start_b + (TRANSPOSE_B == 1 ? (j0 + j) * k + p0 + q : (p0 + q) * n + j0 + j)];
            tile_b[q][j] = right;
        }
        barrier();
        for (uint p = 0; p < 16; p++) {
            float left[4], right[4];
            for (uint x = 0; x < 4; x++) left[x] = tile_a[p][ti + 16 * x];
            for (uint y = 0; y < 4; y++) right[y] = tile_b[p][tj + 16 * y];
            for (uint x = 0; x < 4; x++)
                for (uint y = 0; y < 4; y++) sum[x][y] += left[x] * right[y];
        }
        barrier();
    }
    uint start_d = (split * batch + product) * m * n;
    for (uint x = 0; x < 4; x++)
        for (uint y = 0; y < 4; y++) {
            uint i = i0 + ti + 16 * x, j = j0 + tj + 16 * y;
            if (i >= m || j >= n) continue;
            float before = 0.0;
#ifdef HAS_C
            before = args.c.at[args.row == 1 ? j : product * m * n + i * n + j];
#endif
            args.d.at[start_d + i * n + j] = before + sum[x][y];
        }
}
