#version 460
// Rotary positions, one row a group: a thread has a pair of dimensions and turns it in every head. y may be x.
#include "common/common.glsl"
#include "common/stored.glsl"

layout(push_constant) uniform Arguments {
    Stored x;
    Words positions;
    Stored y;
    uint tokens;
    uint columns;
    uint heads;
    uint half_dim;
    uint ratio_high;
    uint ratio_low;
    uint backwards;
    uint slow_high;
    uint slow_low;
    uint fast_high;
    uint fast_low;
    uint least_high;
    uint least_low;
    uint slope_high;
    uint slope_low;
    uint shift;
} args;

// Numbers of 64 bits as (low, high): the high half of their product.
uvec2 high_product(uvec2 a, uvec2 b) {
    uint unused, high, low, carry, part;
    umulExtended(a.x, b.x, part, unused);
    umulExtended(a.x, b.y, high, low);
    part = uaddCarry(part, low, carry);
    uvec2 sum = uvec2(high + carry, 0);
    umulExtended(a.y, b.x, high, low);
    part = uaddCarry(part, low, carry);
    high += carry;
    sum.x = uaddCarry(sum.x, high, sum.y);
    umulExtended(a.y, b.y, high, low);
    sum.x = uaddCarry(sum.x, low, carry);
    sum.y += high + carry;
    return sum;
}

// How far pair i turns from one position to the next, in units of 2^-64 of a turn: ratio^i / (2 pi).
uvec2 frequency_of(uint i) {
    uvec2 frequency = uvec2(0x9391054au, 0x28be60dbu);
    uvec2 power = uvec2(args.ratio_low, args.ratio_high);
    for (; i > 0; i >>= 1) {
        if ((i & 1) == 1) frequency = high_product(frequency, power);
        power = high_product(power, power);
    }
    return frequency;
}

bool less(uvec2 a, uvec2 b) {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

uvec2 shifted_left(uvec2 a, uint bits) {
    if (bits == 0) return a;
    if (bits >= 32) return uvec2(0, a.x << (bits - 32));
    return uvec2(a.x << bits, a.y << bits | a.x >> (32 - bits));
}

// A frequency made lower, unless it is one of the fast ones.
uvec2 scaled(uvec2 frequency) {
    uvec2 slow = uvec2(args.slow_low, args.slow_high);
    uvec2 share = uvec2(args.least_low, args.least_high);
    if (!less(frequency, uvec2(args.fast_low, args.fast_high))) return frequency;
    if (less(slow, frequency)) {
        uint borrow, carry;
        uvec2 above = uvec2(usubBorrow(frequency.x, slow.x, borrow), 0);
        above.y = frequency.y - slow.y - borrow;
        uvec2 slope = uvec2(args.slope_low, args.slope_high);
        uvec2 more = shifted_left(high_product(shifted_left(above, args.shift), slope), 1);
        share.x = uaddCarry(share.x, more.x, carry);
        share.y += more.y + carry;
    }
    return high_product(frequency, share);
}

// Cosine and sine of an angle in units of 2^-32 of a turn: polynomials around the nearest quarter, as drivers may be far off.
vec2 cos_sin(uint turn) {
    uint quarter = (turn + (1u << 29)) >> 30;
    float x = float(int(turn - (quarter << 30))) * 1.4629181e-9;
    float u = x * x;
    float s = x + x * u * (-1.6666667e-1 + u * (8.333334e-3 + u * (-1.984127e-4 + u * 2.7557319e-6)));
    float c = 1.0 + u * (-0.5 + u * (4.1666668e-2 + u * (-1.3888889e-3 + u * (2.4801587e-5 + u * -2.755732e-7))));
    float a = (quarter & 1) == 1 ? s : c;
    float b = (quarter & 1) == 1 ? c : s;
    return vec2(((quarter + 1) & 2) == 2 ? -a : a, (quarter & 2) == 2 ? -b : b);
}

void main() {
    uint thread = gl_LocalInvocationID.x;
    uint threads = gl_WorkGroupSize.x;
    uint half_dim = args.half_dim;
    // Narrow heads leave threads for several heads at a time.
    uint lanes = min(half_dim, threads);
    uint abreast = threads / lanes;
    uint lane = thread % lanes;
    uint first_head = thread / lanes;
    for (uint token = gl_WorkGroupID.x; token < args.tokens; token += gl_NumWorkGroups.x) {
        uint row = token * args.columns;
        uint position = args.positions.at[token];
        for (uint i = lane; i < half_dim && first_head < abreast; i += lanes) {
            uvec2 frequency = scaled(frequency_of(i));
            uint high, low;
            umulExtended(frequency.x, position, high, low);
            vec2 turn = cos_sin(frequency.y * position + high);
            if (args.backwards == 1) turn.y = -turn.y;
            for (uint head = first_head; head < args.heads; head += abreast) {
                uint at = row + head * 2 * half_dim + i;
                float a = GET(args.x, at);
                float b = GET(args.x, at + half_dim);
                PUT(args.y, at, a * turn.x - b * turn.y);
                PUT(args.y, at + half_dim, b * turn.x + a * turn.y);
            }
        }
        for (uint j = args.heads * 2 * half_dim + thread; j < args.columns; j += threads) {
            PUT(args.y, row + j, GET(args.x, row + j));
        }
    }
}
