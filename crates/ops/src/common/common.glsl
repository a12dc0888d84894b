// What all shaders share: buffers by address, arguments, and sums whose bits don't depend on the subgroup size.
//
// A shader takes this form. The push constants are the operands' addresses in order, then the words in order, and at
// most 128 bytes; constants are `layout(constant_id = 1) const uint WIDTH = 1;` and so on (0 is the number of threads):
//
//     #version 460
//     #include "common/common.glsl"
//     layout(push_constant) uniform Arguments {
//         Floats x;      // [elements]
//         Floats y;      // [elements]
//         uint elements;
//         float factor;
//     } args;
//     void main() {
//         uint i = gl_GlobalInvocationID.x;
//         if (i < args.elements) args.y.at[i] = args.factor * args.x.at[i];
//     }
//
// A barrier (and so every `group_` function) must be reached by all threads of a group: no early return before it.

#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(local_size_x_id = 0) in;

// No `restrict`: an output may be the very memory of an input.
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
// Four at a time: only where the address and the offset are multiples of 16 bytes.
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Float4s { vec4 at[]; };

const float INFINITY = uintBitsToFloat(0x7f800000u);

// By bits: a driver may assume that numbers are finite.
bool not_finite(float x) {
    return (floatBitsToUint(x) & 0x7f800000u) == 0x7f800000u;
}

// Sum over each aligned block of `width` lanes, in every lane: a tree, neighbours first.
// `width` is a power of two and at most the subgroup size (8 is always right).
float lanes_sum(float value, uint width) {
    for (uint lane = 1; lane < width; lane <<= 1) value += subgroupShuffleXor(value, lane);
    return value;
}

// The largest over each aligned block of `width` lanes, in every lane.
float lanes_max(float value, uint width) {
    for (uint lane = 1; lane < width; lane <<= 1) value = max(value, subgroupShuffleXor(value, lane));
    return value;
}

// One entry a subgroup: up to 1024 threads in subgroups of 4.
shared float group_partials[256];

// Leaves the number of partials that each subgroup still has to combine by itself, at most its size.
#define GROUP_REDUCE(lanes_combine)                                                                  \
    value = lanes_combine(value, gl_SubgroupSize);                                                   \
    barrier();                                                                                       \
    if (gl_SubgroupInvocationID == 0) group_partials[gl_SubgroupID] = value;                         \
    barrier();                                                                                       \
    uint count = gl_NumSubgroups;                                                                    \
    while (count > gl_SubgroupSize) {                                                                \
        float part = lanes_combine(group_partials[gl_LocalInvocationIndex % count], gl_SubgroupSize); \
        count /= gl_SubgroupSize;                                                                    \
        barrier();                                                                                   \
        if (gl_SubgroupInvocationID == 0 && gl_SubgroupID < count) group_partials[gl_SubgroupID] = part; \
        barrier();                                                                                   \
    }                                                                                                \
    return lanes_combine(group_partials[gl_SubgroupInvocationID % count], count)

// Sum over the group, in every thread: one tree over the threads, neighbours first, whatever the subgroup size.
// The number of threads is a power of two and a multiple of the subgroup size (64 or more is always right).
float group_sum(float value) {
    GROUP_REDUCE(lanes_sum);
}

// The largest over the group, in every thread.
float group_max(float value) {
    GROUP_REDUCE(lanes_max);
}

// erf(x), absolute error below 4e-7: x P(x^2) / Q(x^2) on [-4, 4].
float erf_(float x) {
    x = clamp(x, -4.0, 4.0);
    float u = x * x;
    float p = 2.0012691e-6;
    p = p * u + 2.8283636e-4;
    p = p * u + 3.8039282e-3;
    p = p * u + 5.2854141e-2;
    p = p * u + 1.9168595e-1;
    p = p * u + 1.1283792;
    float q = 3.7481052e-5;
    q = q * u + 1.1664821e-3;
    q = q * u + 1.5047173e-2;
    q = q * u + 1.1458014e-1;
    q = q * u + 5.0321014e-1;
    q = q * u + 1.0;
    return x * p / q;
}
