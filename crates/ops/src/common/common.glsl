// What shaders share: buffer references, the group's size, erf.
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Floats { float at[]; };
layout(buffer_reference, scalar, buffer_reference_align = 4) buffer Words { uint at[]; };

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
