//! What can be computed: one folder and one card an op. `OPS` is the list; nothing is scanned.

#[macro_use]
pub mod spirv;
pub mod adam;
pub mod argmax;
pub mod attention;
pub mod bias_gelu;
pub mod cached_attention;
pub mod cast;
pub mod common;
pub mod cross_entropy;
pub mod elementwise;
pub mod embed;
pub mod fill;
pub mod grad_norm;
pub mod kv_append;
pub mod layer_norm;
pub mod loss_scale;
pub mod matmul;
pub mod philox;
pub mod reduce;
pub mod residual_layer_norm;
pub mod residual_rms_norm;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod swiglu;

#[cfg(test)]
#[path = "../../device/tests/there/mod.rs"]
mod there;

use graph::OpDef;

/// Every op, by folder.
pub static OPS: &[&OpDef] = &[
    &adam::ADAM,
    &adam::ADVANCE,
    &argmax::ARGMAX,
    &attention::ATTENTION,
    &attention::ATTENTION_BACKWARD,
    &cached_attention::CACHED_ATTENTION,
    &cast::CAST,
    &cross_entropy::CROSS_ENTROPY,
    &cross_entropy::CROSS_ENTROPY_BACKWARD,
    &elementwise::ADD,
    &elementwise::SUB,
    &elementwise::MUL,
    &elementwise::SCALE,
    &elementwise::GELU,
    &elementwise::GELU_BACKWARD,
    &elementwise::SILU,
    &elementwise::SILU_BACKWARD,
    &embed::EMBED,
    &embed::EMBED_BACKWARD,
    &fill::FILL,
    &grad_norm::GRAD_NORM,
    &loss_scale::UNSCALE,
    &loss_scale::RESCALE,
    &matmul::MATMUL,
    &matmul::MATMUL_ADD,
    // After `matmul_add`, which takes a product's bias at no cost.
    &bias_gelu::BIAS_GELU,
    &kv_append::KV_APPEND,
    &layer_norm::LAYER_NORM,
    &layer_norm::LAYER_NORM_BACKWARD,
    &philox::UNIFORM,
    &reduce::SUM_ALL,
    &reduce::SUM_ROWS,
    &residual_layer_norm::RESIDUAL_LAYER_NORM,
    &residual_layer_norm::LAYER_NORM_BACKWARD_RESIDUAL,
    &residual_layer_norm::LAYER_NORM_BACKWARD_RESIDUAL_AFTER,
    &residual_rms_norm::RESIDUAL_RMS_NORM,
    &residual_rms_norm::RMS_NORM_BACKWARD_RESIDUAL,
    &residual_rms_norm::RMS_NORM_BACKWARD_RESIDUAL_AFTER,
    &rms_norm::RMS_NORM,
    &rms_norm::RMS_NORM_BACKWARD,
    &rope::ROPE,
    &sample::SAMPLE,
    &swiglu::SWIGLU,
    &swiglu::SWIGLU_BACKWARD,
];

/// The ops that gradients need.
pub const GRAD: graph::grad::GradOps = graph::grad::GradOps { add: elementwise::add, ones: fill::ones };

/// The card of a name.
pub fn find(name: &str) -> Option<&'static OpDef> {
    OPS.iter().copied().find(|op| op.name == name)
}
