//! The loss scale on the CPU.
#![expect(unsafe_code, reason = "outputs may lie in the inputs' memory")]

use crate::common::cpu::{input, output, pointer};
use graph::CpuArgs;

/// y = (norm / scale, scale).
pub fn unscale(args: &CpuArgs, _: usize) {
    let (norm, scale) = (input::<f32>(args, 0)[0], input::<f32>(args, 1)[0]);
    output::<f32>(args, 2, 0..2).copy_from_slice(&[norm / scale, scale]);
}

/// The next scale and count; they may be the old ones' memory.
pub fn rescale(args: &CpuArgs, _: usize) {
    let finite = input::<u32>(args, 2)[0] != 0;
    let (enough, most) = (args.words[0], f32::from_bits(args.words[1]));
    let (scale, good): (*const f32, *const u32) = (pointer(args, 0), pointer(args, 1));
    let (new_scale, new_good): (*mut f32, *mut u32) = (pointer(args, 3), pointer(args, 4));
    // SAFETY: each is one word, by the card, and both are read before they are written.
    unsafe {
        let (scale, good) = (scale.read(), good.read() + 1);
        let (scale, good) = match finite {
            false => ((scale * 0.5).max(1.0), 0),
            true if good >= enough => ((scale * 2.0).min(most).max(scale), 0),
            true => (scale, good),
        };
        new_scale.write(scale);
        new_good.write(good);
    }
}
