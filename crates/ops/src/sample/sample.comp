#version 460
// A token for each row of logits: the largest, or drawn within top-k, top-p and min-p. One row a group of 256 threads;
// every sum is over all 256th elements of a thread, then over the threads.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Floats logits;
    Floats temperature;
    Words top_k;
    Floats top_p;
    Floats min_p;
    Words seed;
    Words counter;
    Words y;
    uint rows;
    uint vocab;
} args;

const uint THREADS = 256;
const float LEAST_TEMPERATURE = 1e-20;
const float BELOW = -80.0;
const uint LEAST_KEY = 0x007fffffu;
const uint GREATEST_KEY = 0xff800000u;

shared float sums[THREADS];
shared float sums16[16];
shared uint owner;
shared float target;
shared float sum_before;

// The row at hand: where it starts, its largest logit, its temperature, and the bound below which nothing has a mass.
uint start;
float row_max;
float temperature;
float bound;

// NaNs and what isn't a setting are found by their bits: a driver may assume that there are none.
bool is_nan(float x) {
    return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u;
}

float logit(uint j) {
    float x = args.logits.at[start + j];
    return is_nan(x) ? -INFINITY : x;
}

float mass_of(float x) {
    float below = x == -INFINITY ? 2.0 * BELOW : (x - row_max) / temperature;
    float weight = below > BELOW ? exp(below) : 0.0;
    return x == row_max ? 1.0 : (x < bound || row_max == INFINITY ? 0.0 : weight);
}

// The number of a key; keys are in the order of their numbers, from that of -infinity to that of infinity.
float of_key(uint key) {
    return uintBitsToFloat(key >> 31 == 1 ? key & 0x7fffffffu : ~key);
}

// The greatest bound that leaves `enough` logits, or enough mass: two bits of its key at a time.
float greatest_bound(bool by_mass, float enough) {
    uint key = 0;
    // How many are at least the bound, and how many are at least the least bound that is known to be too high.
    float left = float(args.vocab) + 2.0;
    float beyond = 0.0;
    for (int shift = 30; shift >= 0; shift -= 2) {
        float bounds[3];
        float counts[3];
        float masses[3];
        [[unroll]] for (uint i = 0; i < 3; i++) {
            bounds[i] = of_key(min(max(key | (i + 1) << shift, LEAST_KEY), GREATEST_KEY));
            counts[i] = 0.0;
            masses[i] = 0.0;
        }
        for (uint j = gl_LocalInvocationID.x; j < args.vocab; j += THREADS) {
            float x = logit(j);
            float mass = by_mass ? mass_of(x) : 0.0;
            [[unroll]] for (uint i = 0; i < 3; i++) {
                counts[i] += x >= bounds[i] ? 1.0 : 0.0;
                masses[i] += x >= bounds[i] ? mass : 0.0;
            }
        }
        uint digit = 0;
        for (uint i = 0; i < 3; i++) {
            uint higher = key | (i + 1) << shift;
            float count = group_sum(counts[i]);
            float sum = by_mass ? group_sum(masses[i]) : count;
            bool good = higher <= LEAST_KEY || (higher <= GREATEST_KEY && sum >= enough && count > 0.0);
            if (good) {
                digit = i + 1;
                left = count;
            } else if (digit == i) {
                beyond = higher <= GREATEST_KEY ? count : 0.0;
            }
        }
        key |= digit << shift;
        // The bound's own logit is all that is left between the two, or there are just as many as asked for.
        if (key > LEAST_KEY && (left - beyond <= 1.0 || (!by_mass && left == enough))) break;
    }
    return of_key(max(key, LEAST_KEY));
}

float uniform_number(uint row) {
    uvec4 c = uvec4(args.counter.at[row], 0u, 0u, 0u);
    uvec2 key = uvec2(args.seed.at[2 * row], args.seed.at[2 * row + 1]);
    for (uint round = 0; round < 10; round++) {
        uint high0, low0, high1, low1;
        umulExtended(0xD2511F53u, c.x, high0, low0);
        umulExtended(0xCD9E8D57u, c.z, high1, low1);
        c = uvec4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
        key += uvec2(0x9E3779B9u, 0xBB67AE85u);
    }
    return float(c.x >> 8) * (1.0 / 16777216.0);
}

// The thread in whose run of tokens the sum comes above the target, or the last one with any mass.
void find_thread() {
    uint last = 0;
    for (uint i = 0; i < 16; i++) {
        if (sums16[i] > 0.0) last = i;
    }
    float before = 0.0;
    uint block = 0;
    while (block < last && before + sums16[block] <= target) before += sums16[block++];
    uint end = block * 16 + 15;
    while (sums[end] <= 0.0 && end > block * 16) end--;
    uint at = block * 16;
    while (at < end && before + sums[at] <= target) before += sums[at++];
    owner = at;
    sum_before = before;
}

// One row with a temperature: in the order of the tokens, a run of them a thread.
void draw(uint row, float least) {
    uint thread = gl_LocalInvocationID.x;
    uint run = (args.vocab + THREADS - 1) / THREADS;
    uint from = min(args.vocab, thread * run);
    uint to = min(args.vocab, from + run);
    float sum = 0.0;
    for (uint j = from; j < to; j++) {
        float mass = mass_of(logit(j));
        sum += mass < least ? 0.0 : mass;
    }
    barrier();
    sums[thread] = sum;
    barrier();
    if (thread < 16) {
        float part = 0.0;
        for (uint i = 0; i < 16; i++) part += sums[thread * 16 + i];
        sums16[thread] = part;
    }
    barrier();
    if (thread == 0) {
        float total = 0.0;
        for (uint i = 0; i < 16; i++) total += sums16[i];
        target = uniform_number(row) * total;
        find_thread();
    }
    barrier();
    if (thread == owner) {
        float so_far = sum_before;
        uint answer = 0;
        for (uint j = from; j < to; j++) {
            float mass = mass_of(logit(j));
            if (mass < least || mass <= 0.0) continue;
            so_far += mass;
            answer = j;
            if (so_far > target) break;
        }
        args.y.at[row] = answer;
    }
    barrier();
}

void main() {
    uint thread = gl_LocalInvocationID.x;
    for (uint row = gl_WorkGroupID.x; row < args.rows; row += gl_NumWorkGroups.x) {
        start = row * args.vocab;
        float setting = args.temperature.at[row];
        bool greedy = is_nan(setting) || setting <= 0.0;
        temperature = max(setting, LEAST_TEMPERATURE);
        bound = -INFINITY;
        float highest = -INFINITY;
        for (uint j = thread; j < args.vocab; j += THREADS) highest = max(highest, logit(j));
        row_max = group_max(highest);
        if (row_max == -INFINITY || greedy) {
            // The first of equals; whole numbers up to 2^24 are exact.
            float first = -16777216.0;
            for (uint j = thread; j < args.vocab; j += THREADS) {
                if (logit(j) == row_max) first = max(first, -float(j));
            }
            first = group_max(first);
            if (thread == 0) args.y.at[row] = row_max == -INFINITY ? 0 : uint(-first);
            barrier();
            continue;
        }
        uint top_k = args.top_k.at[row];
        float top_p = args.top_p.at[row];
        float min_p = args.min_p.at[row];
        if (top_k > 0 && top_k < args.vocab) bound = greatest_bound(false, float(top_k));
        if (!is_nan(top_p) && top_p < 1.0) {
            float sum = 0.0;
            for (uint j = thread; j < args.vocab; j += THREADS) sum += mass_of(logit(j));
            float higher = greatest_bound(true, max(top_p, 0.0) * group_sum(sum));
            bound = max(bound, higher);
        }
        draw(row, is_nan(min_p) ? 0.0 : min(min_p, 1.0));
    }
}
