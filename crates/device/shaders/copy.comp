#version 460
// to[i] = from[i]. In strides of all threads: 16 bytes a thread if WIDE, else one word.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference_uvec2 : require

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint WIDE = 0;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Words { uint at[]; };
layout(buffer_reference, std430, buffer_reference_align = 16) buffer Quads { uvec4 at[]; };

layout(push_constant) uniform Arguments {
    uvec2 from;
    uvec2 to;
    uint count;
} args;

void main() {
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    if (WIDE != 0) {
        for (uint i = gl_GlobalInvocationID.x; i < args.count; i += stride) Quads(args.to).at[i] = Quads(args.from).at[i];
    } else {
        for (uint i = gl_GlobalInvocationID.x; i < args.count; i += stride) Words(args.to).at[i] = Words(args.from).at[i];
    }
}
