#version 460
// 16 chains of multiply-adds a thread, 16 rounds a count: what the arithmetic units do at best.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_control_flow_attributes : require

layout(local_size_x_id = 0) in;

layout(buffer_reference, std430, buffer_reference_align = 4) buffer Floats { float at[]; };

layout(push_constant) uniform Arguments {
    Floats sums; // [threads]
    uint count;
    float factor;
} args;

void main() {
    float x[16];
    [[unroll]] for (uint i = 0; i < 16; i++) x[i] = float(gl_LocalInvocationIndex + i);
    for (uint round = 0; round < args.count; round++) {
        [[unroll]] for (uint step = 0; step < 16; step++) {
            [[unroll]] for (uint i = 0; i < 16; i++) x[i] = fma(x[i], args.factor, 1.0);
        }
    }
    float sum = 0.0;
    [[unroll]] for (uint i = 0; i < 16; i++) sum += x[i];
    args.sums.at[gl_GlobalInvocationID.x] = sum;
}
