// bf16 and f16 in memory, f32 in registers: to the nearest, ties to even; NaNs stay NaNs, what is too large is infinite.
// All by bits: nothing is asked of the device but to load and store 16 bits.

#extension GL_EXT_shader_16bit_storage : require

layout(buffer_reference, std430, buffer_reference_align = 2) buffer Halves { uint16_t at[]; };

float float_of_bf16(uint x) {
    return uintBitsToFloat(x << 16);
}

uint bf16_of(float value) {
    uint x = floatBitsToUint(value);
    if ((x & 0x7fffffffu) > 0x7f800000u) return x >> 16 | 0x40u;
    return (x + 0x7fffu + (x >> 16 & 1u)) >> 16;
}

float float_of_f16(uint x) {
    uint sign = (x & 0x8000u) << 16;
    uint exponent = x >> 10 & 31u;
    uint fraction = x & 0x3ffu;
    if (exponent == 0) {
        uint magnitude = floatBitsToUint(float(fraction) * uintBitsToFloat(0x33800000u)); // 2^-24
        return uintBitsToFloat(sign | magnitude);
    }
    uint wide = exponent == 31u ? 255u : exponent + 112u;
    return uintBitsToFloat(sign | wide << 23 | fraction << 13);
}

uint f16_of(float value) {
    uint x = floatBitsToUint(value);
    uint sign = x >> 16 & 0x8000u;
    x &= 0x7fffffffu;
    if (x > 0x7f800000u) return sign | 0x7e00u;
    if (x >= 0x477ff000u) return sign | 0x7c00u; // 65520, halfway to what would come after the largest
    if (x >= 0x38800000u) return sign | (x + 0xc8000fffu + (x >> 13 & 1u)) >> 13;
    uint exponent = x >> 23;
    if (exponent < 102u) return sign; // below 2^-25
    uint digits = (x & 0x7fffffu) | 0x800000u;
    uint shift = 126u - exponent;
    uint rounded = digits >> shift;
    uint rest = digits & ((1u << shift) - 1u);
    uint middle = 1u << (shift - 1u);
    if (rest > middle || (rest == middle && (rounded & 1u) == 1u)) rounded++;
    return sign | rounded;
}
