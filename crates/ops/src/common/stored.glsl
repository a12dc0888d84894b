// Tensors' elements as they are stored, the arithmetic being f32: STORAGE 0 is f32, 1 bf16 and 2 f16; RESULT is the same for
// what the shader makes, where that is stored as something else.
#ifndef STORAGE
#define STORAGE 0
#endif
#ifndef RESULT
#define RESULT STORAGE
#endif

#if STORAGE > 0 || RESULT > 0
#include "common/narrow.glsl"
#extension GL_EXT_buffer_reference_uvec2 : require

// Four at a time: only where the address is a multiple of 8 bytes.
layout(buffer_reference, std430, buffer_reference_align = 8) buffer Half4s { uvec2 at[]; };

bool aligned4(Halves x) {
    return (uvec2(x).x & 7) == 0;
}

vec4 floats_of_bf16(uvec2 four) {
    return uintBitsToFloat(uvec4(four.x << 16, four.x & 0xffff0000u, four.y << 16, four.y & 0xffff0000u));
}

uvec2 bf16s_of(vec4 four) {
    return uvec2(bf16_of(four.x) | bf16_of(four.y) << 16, bf16_of(four.z) | bf16_of(four.w) << 16);
}

vec4 floats_of_f16(uvec2 four) {
    return vec4(float_of_f16(four.x & 0xffffu), float_of_f16(four.x >> 16), float_of_f16(four.y & 0xffffu),
                float_of_f16(four.y >> 16));
}

uvec2 f16s_of(vec4 four) {
    return uvec2(f16_of(four.x) | f16_of(four.y) << 16, f16_of(four.z) | f16_of(four.w) << 16);
}
#endif

// Element i, four of them from 4 i on, and what x is once it has been stored.
#if STORAGE == 0
#define Stored Floats
#define Stored4 Float4s
#define GET(x, i) (x).at[i]
#define GET4(x, i) (x).at[i]
#define ROUNDED(x) (x)
#elif STORAGE == 1
#define Stored Halves
#define Stored4 Half4s
#define GET(x, i) float_of_bf16(uint((x).at[i]))
#define GET4(x, i) floats_of_bf16((x).at[i])
#define ROUNDED(x) float_of_bf16(bf16_of(x))
#else
#define Stored Halves
#define Stored4 Half4s
#define GET(x, i) float_of_f16(uint((x).at[i]))
#define GET4(x, i) floats_of_f16((x).at[i])
#define ROUNDED(x) float_of_f16(f16_of(x))
#endif

#if RESULT == 0
#define Result Floats
#define Result4 Float4s
#define PUT(x, i, value) (x).at[i] = (value)
#define PUT4(x, i, value) (x).at[i] = (value)
#elif RESULT == 1
#define Result Halves
#define Result4 Half4s
#define PUT(x, i, value) (x).at[i] = uint16_t(bf16_of(value))
#define PUT4(x, i, value) (x).at[i] = bf16s_of(value)
#else
#define Result Halves
#define Result4 Half4s
#define PUT(x, i, value) (x).at[i] = uint16_t(f16_of(value))
#define PUT4(x, i, value) (x).at[i] = f16s_of(value)
#endif
