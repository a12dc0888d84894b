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
            uvec2 frequency = frequency_of(i);
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
