#version 460
// Adam over flat memory: parameters and moments may be updated in place, so every element is read before it is written.
#include "common/common.glsl"

// 1: the norm is followed by the loss scale.
layout(constant_id = 1) const uint SCALED = 0;

layout(push_constant) uniform Arguments {
    Floats parameters;
    Floats gradients;
    Floats m;
    Floats v;
    Floats lr;
    Words applied;
    Floats norm;
    Words finite;
    Floats new_parameters;
    Floats new_m;
    Floats new_v;
    uint elements;
    float one_minus_beta1;
    float ln_beta1;
    float beta2;
    float one_minus_beta2;
    float ln_beta2;
    float eps;
    float decay;
    uint decoupled;
    float max_norm;
} args;

// 1 - e^x for x <= 0, without losing digits near 0.
float correction(float x) {
    if (x <= -0.25) return 1.0 - exp(x);
    float p = 1.0 / 5040.0;
    p = p * x + 1.0 / 720.0;
    p = p * x + 1.0 / 120.0;
    p = p * x + 1.0 / 24.0;
    p = p * x + 1.0 / 6.0;
    p = p * x + 0.5;
    p = p * x + 1.0;
    return -(p * x);
}

void main() {
    bool apply = args.finite.at[0] != 0;
    float rate = args.lr.at[0];
    float steps = float(args.applied.at[0]);
    float clip = args.max_norm > 0.0 ? min(args.max_norm / (args.norm.at[0] + 1e-6), 1.0) : 1.0;
    if (SCALED != 0) clip /= args.norm.at[1];
    float step_size = rate / correction(steps * args.ln_beta1);
    float scale = 1.0 / sqrt(correction(steps * args.ln_beta2));
    float keep = args.decoupled != 0 ? 1.0 - rate * args.decay : 1.0;
    float decay = args.decoupled != 0 ? 0.0 : args.decay;
    uint threads = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = gl_GlobalInvocationID.x; i < args.elements; i += threads) {
        float p = args.parameters.at[i];
        float m = args.m.at[i];
        float v = args.v.at[i];
        if (apply) {
            float g = args.gradients.at[i] * clip + decay * p;
            m += args.one_minus_beta1 * (g - m);
            v = args.beta2 * v + args.one_minus_beta2 * g * g;
            p = p * keep - step_size * (m / (sqrt(v) * scale + args.eps));
        }
        args.new_parameters.at[i] = p;
        args.new_m.at[i] = m;
        args.new_v.at[i] = v;
    }
}
