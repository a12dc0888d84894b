#version 460
// Copies the outputs into the step's slot of the output ring, and counts the replay.
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 4) buffer Count { uint begun; uint ended; };

layout(push_constant) uniform Arguments {
    Count count;
    Words outputs; // [words]
    Words ring;    // [slots, words]
    uint words;
    uint slots;
} args;

void main() {
    uint replays = args.count.ended;
    uint to = (replays - 1) % args.slots * args.words;
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.words; i += stride) args.ring.at[to + i] = args.outputs.at[i];
    if (gl_GlobalInvocationID.x == 0) args.count.begun = replays;
}
