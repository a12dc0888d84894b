#version 460
// Philox4x32-10 (Salmon et al., SC 2011): uniform numbers, a block of four a thread.
#include "common/common.glsl"

layout(push_constant) uniform Arguments {
    Words step;
    Floats y;
    uint n;
    uint key_low;
    uint key_high;
    float low;
    float high;
} args;

void main() {
    uint blocks = (args.n + 3) / 4;
    uint threads = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint block = gl_GlobalInvocationID.x; block < blocks; block += threads) {
        uvec4 c = uvec4(block, 0u, args.step.at[0], 0u);
        uvec2 key = uvec2(args.key_low, args.key_high);
        for (uint round = 0; round < 10; round++) {
            uint high0, low0, high1, low1;
            umulExtended(0xD2511F53u, c.x, high0, low0);
            umulExtended(0xCD9E8D57u, c.z, high1, low1);
            c = uvec4(high1 ^ c.y ^ key.x, low1, high0 ^ c.w ^ key.y, low0);
            key += uvec2(0x9E3779B9u, 0xBB67AE85u);
        }
        // No multiply-add: the same bits as on every device.
        precise float range = args.high - args.low;
        for (uint k = 0; k < 4; k++) {
            uint i = block * 4 + k;
            precise float scaled = range * (float(c[k] >> 8) * (1.0 / 16777216.0));
            precise float value = args.low + scaled;
            if (i < args.n) args.y.at[i] = value;
        }
    }
}
