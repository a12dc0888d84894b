#version 460
// Copies the step's slot of the input ring into the inputs, and tells `end` which slot that was.
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
// `begun` counts ended replays and is read here; `ended` is read by `end`: nothing reads what it writes.
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Count { uint begun; uint ended; };

layout(push_constant) uniform Arguments {
    Count count;
    Words ring;    // [slots, words]
    Words inputs;  // [words]
    uint words;
    uint slots;
} args;

void main() {
    uint replay = args.count.begun;
    uint from = replay % args.slots * args.words;
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.words; i += stride) args.inputs.at[i] = args.ring.at[from + i];
    if (gl_GlobalInvocationID.x == 0) args.count.ended = replay + 1;
}
