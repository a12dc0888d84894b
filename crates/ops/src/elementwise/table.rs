//! The table of elementwise ops: a row gives the expression for GPUs, for the CPU and in f64, and the gradient.

use super::{cases, cost, cpu, infer, lower, reference, unbroadcast};
use crate::common::stored::EVERYWHERE;
use crate::common::{self, math};
use graph::op::FLOATS;
use graph::{Backward, CpuArgs, CudaSource, Meaning, OpDef, Params, Shader, Tensor};

/// One card a row. `a`, `b` and `s` are the names in the expression, which is valid CUDA C++ and GLSL.
macro_rules! table {
    ($($op:ident $function:ident $name:literal $formula:literal ($($input:ident),+ $(; $s:ident)?) flops $flops:literal {
        gpu: $gpu:literal,
        cpu: $cpu:expr,
        f64: $f64:expr,
        gradient: $gradient:expr,
    })*) => {$(
        #[doc = concat!("`", $name, "`: ", $formula, ".")]
        pub static $op: OpDef = OpDef {
            name: $name,
            formula: $formula,
            infer: |_, types| infer(INPUTS.$function, types),
            storage: FLOATS,
            sharing: &[(0, 0)],
            cost: |call| cost(call, $flops),
            meaning: Meaning::Loops(|call, inputs| reference(call, inputs, $f64)),
            gradient: Some($gradient),
            lower: |call, spec, _| common::widened(call, spec, EVERYWHERE, |call| {
                lower(call, spec, &sources::$function::CUDA, &sources::$function::SHADER, sources::$function::select)
            }),
            shaders: shader_list!(sources::$function::SHADER),
            cases: || cases(INPUTS.$function, false $(|| stringify!($s) == "s")?),
            ..OpDef::BASE
        };

        #[doc = concat!($formula, ". Element by element; b may be a row of a's shape or one number.")]
        #[track_caller]
        pub fn $function($($input: &Tensor),+ $(, $s: f32)?) -> Tensor {
            let params = Params::NONE$(.with_f32("s", $s))?;
            first(&[$($input),+]).tracer().emit(&$op, &[$($input),+], params)[0].clone()
        }
    )*

        /// How many inputs each row has.
        struct Inputs { $($function: usize),* }
        const INPUTS: Inputs = Inputs { $($function: [$(stringify!($input)),+].len()),* };

        mod sources {$(
            pub mod $function {
                use super::super::*;
                use crate::common::cpu::Element;

                pub static CUDA: CudaSource = CudaSource {
                    name: concat!("elementwise.cu (", $name, ")"),
                    text: concat!(
                        include_str!("../common/common.cuh"),
                        $("#define HAS_", stringify!($input), " 1\n",)+
                        "#define EXPRESSION (", $gpu, ")\n",
                        include_str!("elementwise.cu")
                    ),
                };
                pub static SHADER: [Shader; 3] = shaders!(same ["elementwise_" $name] "elementwise/elementwise.comp"
                    [("EXPRESSION", concat!("(", $gpu, ")")) $(, (concat!("HAS_", stringify!($input)), "1"))+]);

                crate::by_type_and_architecture!(select, body);

                #[inline(always)]
                fn body<T: Element>(args: &CpuArgs, part: usize) {
                    cpu::map::<T>(args, part, INPUTS.$function, expression);
                }

                // A large closure with several callers would not be inlined, and then not vectorise.
                #[inline(always)]
                fn expression(a: f32, b: f32, s: f32) -> f32 {
                    cpu::apply($cpu, a, b, s)
                }
            }
        )*}
    };
}

fn first<'a>(inputs: &[&'a Tensor]) -> &'a Tensor {
    inputs[0]
}

table! {
    ADD add "add" "y = a + b" (a, b) flops 1.0 {
        gpu: "a + b",
        cpu: |a, b, _| a + b,
        f64: |a, b, _| a + b,
        gradient: |c| {
            let g = grad(c);
            vec![Some(g.clone()), c.wanted[1].then(|| unbroadcast(g, &c.inputs[1]))]
        },
    }
    SUB sub "sub" "y = a - b" (a, b) flops 1.0 {
        gpu: "a - b",
        cpu: |a, b, _| a - b,
        f64: |a, b, _| a - b,
        gradient: |c| {
            let g = grad(c);
            vec![Some(g.clone()), c.wanted[1].then(|| unbroadcast(scale(&g, -1.0), &c.inputs[1]))]
        },
    }
    MUL mul "mul" "y = a b" (a, b) flops 1.0 {
        gpu: "a * b",
        cpu: |a, b, _| a * b,
        f64: |a, b, _| a * b,
        gradient: |c| {
            let g = grad(c);
            let other = c.wanted[1].then(|| unbroadcast(mul(&g, &c.inputs[0]), &c.inputs[1]));
            vec![Some(mul(&g, &c.inputs[1])), other]
        },
    }
    SCALE scale "scale" "y = s a" (a; s) flops 1.0 {
        gpu: "s * a",
        cpu: |a, _, s| s * a,
        f64: |a, _, s| s * a,
        gradient: |c| vec![Some(scale(&grad(c), c.params.f32("s")))],
    }
    GELU gelu "gelu" "y = a/2 (1 + erf(a / sqrt 2))" (a) flops 20.0 {
        gpu: "0.5f * a * (1.0f + erf_(a * 0.70710678f))",
        cpu: |a, _, _| 0.5 * a * (1.0 + math::erf(a * std::f32::consts::FRAC_1_SQRT_2)),
        f64: |a, _, _| 0.5 * a * (1.0 + math::erf_f64(a * std::f64::consts::FRAC_1_SQRT_2)),
        gradient: |c| vec![Some(gelu_backward(&c.inputs[0], &grad(c)))],
    }
    GELU_BACKWARD gelu_backward "gelu_backward" "dx = b (Phi(a) + a phi(a)), the gradient of gelu at a" (a, b) flops 30.0 {
        gpu: "b * (0.5f * (1.0f + erf_(a * 0.70710678f)) + a * 0.39894228f * exp(-0.5f * a * a))",
        cpu: |a, b, _| b * math::gelu_derivative(a),
        f64: |a, b, _| {
            let cumulative = 0.5 * (1.0 + math::erf_f64(a * std::f64::consts::FRAC_1_SQRT_2));
            b * (cumulative + a * (-0.5 * a * a).exp() / std::f64::consts::TAU.sqrt())
        },
        gradient: |_| vec![None, None],
    }
    SILU silu "silu" "y = a / (1 + exp(-a))" (a) flops 10.0 {
        gpu: "a / (1.0f + exp(-a))",
        cpu: |a, _, _| a / (1.0 + math::exp(-a)),
        f64: |a, _, _| a / (1.0 + (-a).exp()),
        gradient: |c| vec![Some(silu_backward(&c.inputs[0], &grad(c)))],
    }
    SILU_BACKWARD silu_backward "silu_backward" "dx = b s (1 + a (1 - s)), s = 1 / (1 + exp(-a)), the gradient of silu at a" (a, b) flops 13.0 {
        gpu: "b / (1.0f + exp(-a)) * (1.0f + a * (1.0f - 1.0f / (1.0f + exp(-a))))",
        cpu: |a, b, _| b / (1.0 + math::exp(-a)) * (1.0 + a * (1.0 - 1.0 / (1.0 + math::exp(-a)))),
        f64: |a, b, _| b / (1.0 + (-a).exp()) * (1.0 + a * (1.0 - 1.0 / (1.0 + (-a).exp()))),
        gradient: |_| vec![None, None],
    }
}

/// The gradient of the only output.
fn grad(c: &Backward) -> Tensor {
    c.grads[0].clone().expect("a gradient is asked for only where the output has one")
}
