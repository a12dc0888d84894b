#version 460
// words[i] = word. One word a thread, in strides of all threads.
#extension GL_EXT_buffer_reference : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };

layout(push_constant) uniform Arguments {
    Words words;
    uint count;
    uint word;
} args;

void main() {
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.count; i += stride) args.words.at[i] = args.word;
}
