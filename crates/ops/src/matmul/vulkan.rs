//! Matrix products through Vulkan: tiles of three sizes, which change no bit, and sums cut in pieces, which do.

use super::{Sizes, splits};
use crate::common::{self, MOST_GROUPS, stored};
use graph::{Call, Kernel, KernelSource, Launch, Lowering, Operand, Shader, Spec};

/// The tiled product for a tile's size, and that with c. With 16 bits the former also makes f32, the pieces of a cut sum.
macro_rules! tiled {
    ($name:ident $name_add:ident $tile:literal) => {
static $name: [Shader; 5] = shaders!(partial ["matmul_" $tile] "matmul/matmul.comp" [("TILE", $tile)]);
        static $name_add: [Shader; 3] =
    shaders!(same ["matmul_add_" $tile] "matmul/matmul.comp" [("TILE", $tile), ("HAS_C", "1")]);
    };
}
tiled!(TILED_32 TILED_ADD_32 "32");
tiled!(TILED_64 TILED_ADD_64 "64");
tiled!(TILED_128 TILED_ADD_128 "128");
static TILED: [[&[Shader]; 2]; 3] =
    [[&TILED_32, &TILED_ADD_32], [&TILED_64, &TILED_ADD_64], [&TILED_128, &TILED_ADD_128]];
static REDUCE: [Shader; 3] = shaders!(same ["matmul_reduce"] "matmul/matmul_reduce.comp" []);
static REDUCE_ADD: [Shader; 3] = shaders!(same ["matmul_reduce_add"] "matmul/matmul_reduce.comp" [("HAS_C", "1")]);
/// All of them.
pub static SHADERS: &[&Shader] =
    shader_list!(TILED_32, TILED_ADD_32, TILED_64, TILED_ADD_64, TILED_128, TILED_ADD_128, REDUCE, REDUCE_ADD);

/// The tile's size, and whether the sum is cut.
fn meaning(variant: &str) -> (usize, bool) {
    match variant {
        "tile32_split_k" => (32, true),
        "tile64_split_k" => (64, true),
        "tile32" => (32, false),
        "tile128" => (128, false),
        _ => (64, false),
    }
}

/// First the largest tile that leaves no unit idle and isn't mostly padding, cut where units are idle even so.
pub fn variants(s: &Sizes, spec: &Spec) -> Vec<&'static str> {
    let groups = |tile: usize| s.m.div_ceil(tile) * s.n.div_ceil(tile) * s.batches();
    let (units, narrow) = (spec.units as usize, s.m.min(s.n));
    let mut all = if narrow > 64 && groups(128) >= 2 * units {
        vec!["tile128", "tile64", "tile32"]
    } else if narrow > 32 && groups(64) >= units {
        vec!["tile64", "tile32", "tile128"]
    } else {
        vec!["tile32", "tile64", "tile128"]
    };
    if splits(s) > 1 {
        let idle = groups(meaning(all[0]).0) < units;
        all.insert(0, "tile32_split_k");
        all.insert(1, "tile64_split_k");
        if !idle {
            all.rotate_left(2);
        }
    }
    all
}

/// The tiled product, and where the sum is cut the sum of its pieces; the card says what the kernels are given.
pub fn lower(call: &Call, s: &Sizes, variant: &str) -> Lowering {
    let (tile, cut) = meaning(variant);
    let splits = if cut { splits(s) } else { 1 };
    let (with_c, dtype) = (call.inputs.len() == 3, call.inputs[0].dtype);
    let row = u32::from(with_c && call.inputs[2].shape != call.outputs[0].shape);
    // Whole vectors of four, so that a piece begins where a vector does.
    let piece = s.k.div_ceil(splits).next_multiple_of(4);
    let [m, n, k, pieces, piece] = [s.m, s.n, s.k, splits, piece].map(|w| w as u32);
    let groups = [s.n.div_ceil(tile), s.m.div_ceil(tile), s.batches() * splits];
    let constants = vec![("TRANSPOSE_A", u32::from(s.transpose_a)), ("TRANSPOSE_B", u32::from(s.transpose_b))];
    let shaders = TILED[tile.ilog2() as usize - 5];
    let words = vec![m, n, k, pieces, piece, row];
    if splits == 1 {
        let operands = common::operands(call.inputs.len(), 1);
        let shader = stored::shader(shaders[usize::from(with_c)], dtype);
        return Lowering::one(launch(shader, constants, groups, words, operands));
    }
    let operands = vec![Operand::Input(0), Operand::Input(1), Operand::Scratch(0)];
    let shader = stored::shader(shaders[0], stored::through_f32(dtype).0);
    let product = launch(shader, constants, groups, words, operands);
    let elements = call.outputs[0].elements();
    let c = with_c.then_some(Operand::Input(2));
    let operands = [Operand::Scratch(0)].into_iter().chain(c).chain([Operand::Output(0)]).collect();
    let (groups, words) = ([elements.div_ceil(256).min(MOST_GROUPS), 1, 1], vec![elements as u32, n, pieces, row]);
    let shader = stored::shader(if with_c { &REDUCE_ADD } else { &REDUCE }, dtype);
    let reduce = launch(shader, Vec::new(), groups, words, operands);
    Lowering { scratch: vec![(splits * elements * 4) as u64], launches: vec![product, reduce] }
}

fn launch(
    shader: &'static Shader,
    constants: Vec<(&'static str, u32)>,
    groups: [usize; 3],
    words: Vec<u32>,
    operands: Vec<Operand>,
) -> Launch {
    match common::gpu(KernelSource::Vulkan(shader), "main", groups, 256, words, operands) {
        Launch::Kernel(kernel) => Launch::Kernel(Kernel { constants, ..kernel }),
        other => other,
    }
}
