//! How CPU kernels reach their operands, and how they are compiled for each instruction set.
#![expect(unsafe_code, reason = "operands are raw memory that other parts write too")]

use bytemuck::Pod;
use graph::CpuArgs;
use std::ops::Range;

/// Operand `i` as elements that no part of this launch writes.
pub fn input<'a, T: Pod>(args: &CpuArgs<'a>, i: usize) -> &'a [T] {
    let (pointer, bytes) = args.operands[i];
    // SAFETY: the planner placed the operand, aligned; a card uses `input` only where it allows no sharing with an output.
    unsafe { std::slice::from_raw_parts(pointer.cast(), bytes / size_of::<T>()) }
}

/// Elements `range` of operand `i`, which only this part of the launch touches.
pub fn output<'a, T: Pod>(args: &CpuArgs<'a>, i: usize, range: Range<usize>) -> &'a mut [T] {
    let (pointer, bytes) = args.operands[i];
    assert!(range.start <= range.end && range.end * size_of::<T>() <= bytes);
    // SAFETY: in bounds by the assertion; the card cuts parts so that no two touch the same elements.
    unsafe { std::slice::from_raw_parts_mut(pointer.cast::<T>().add(range.start), range.len()) }
}

/// The address of operand `i`, for kernels whose output may lie in an input's memory.
pub fn pointer<T: Pod>(args: &CpuArgs, i: usize) -> *mut T {
    args.operands[i].0.cast()
}

/// The number of elements of operand `i`.
pub fn len<T: Pod>(args: &CpuArgs, i: usize) -> usize {
    args.operands[i].1 / size_of::<T>()
}

/// Part `part` of `len` elements cut every `chunk`.
pub fn chunk(len: usize, chunk: usize, part: usize) -> Range<usize> {
    part * chunk..len.min((part + 1) * chunk)
}

/// An element as it is stored; what is computed with it is f32.
pub trait Element: Pod {
    /// As f32.
    fn get(self) -> f32;
    /// The nearest to x, ties to even.
    fn of(x: f32) -> Self;
}

/// bf16 as its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct Bf16(pub u16);

/// f16 as its bits.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct F16(pub u16);

// SAFETY: they are u16 by another name.
unsafe impl bytemuck::Zeroable for Bf16 {}
// SAFETY: as above.
unsafe impl Pod for Bf16 {}
// SAFETY: as above.
unsafe impl bytemuck::Zeroable for F16 {}
// SAFETY: as above.
unsafe impl Pod for F16 {}

impl Element for f32 {
    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }
}

impl Element for Bf16 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn of(x: f32) -> Self {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Bf16(if bits & 0x7fff_ffff > 0x7f80_0000 { quiet } else { rounded } as u16)
    }
}

impl Element for F16 {
    /// Whole steps of 2^-24 below 2^-14, and the exponent moved above; all three forms are made and one is taken.
    #[inline(always)]
    fn get(self) -> f32 {
        let bits = u32::from(self.0);
        let (sign, exponent, fraction) = ((bits & 0x8000) << 16, bits & 0x7c00, bits & 0x3ff);
        let small = (fraction as i32 as f32 * (1.0 / 16_777_216.0)).to_bits();
        let normal = ((bits & 0x7fff) << 13) + (112 << 23);
        let large = 0x7f80_0000 | fraction << 13;
        let magnitude = if exponent == 0 { small } else { normal };
        f32::from_bits(sign | if exponent == 0x7c00 { large } else { magnitude })
    }

    /// Below 2^-14 the sum with 1/2 rounds to whole steps of 2^-24.
    #[inline(always)]
    fn of(x: f32) -> Self {
        let (sign, bits) = (x.to_bits() >> 16 & 0x8000, x.to_bits() & 0x7fff_ffff);
        let small = (f32::from_bits(bits) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
        let normal = bits.wrapping_add(0xc800_0fff + (bits >> 13 & 1)) >> 13;
        let magnitude = if bits < 0x3880_0000 { small } else { normal };
        let magnitude = if bits >= 0x477f_f000 { 0x7c00 } else { magnitude };
        F16((sign | if bits > 0x7f80_0000 { 0x7e00 } else { magnitude }) as u16)
    }
}

/// to[j] = f(j, from[j]); `to` may be `from`: the compiler must see both situations to vectorise them. Plain loops, as
/// `for_each` with a large closure is not inlined, and then compiled without the instruction set.
///
/// # Safety
/// Both are valid for n elements, and the same or apart; what f reads isn't `to`, unless it is `to` at j alone.
#[inline(always)]
pub unsafe fn map_row<T: Element>(from: *const T, to: *mut T, n: usize, f: impl Fn(usize, f32) -> f32) {
    // SAFETY: by the contract.
    unsafe {
        if std::ptr::eq(from, to) {
            for j in 0..n {
                *to.add(j) = T::of(f(j, (*to.add(j)).get()));
            }
        } else {
            for j in 0..n {
                *to.add(j) = T::of(f(j, (*from.add(j)).get()));
            }
        }
    }
}

/// Numbers that `sums` adds side by side, twice.
const LANES: usize = 16;

/// The sums over j of f(a[j], b[j], c[j]), all of one length: 32 lanes that are then added in halves, and the rest.
#[inline(always)]
pub fn sums<const K: usize>(a: &[f32], b: &[f32], c: &[f32], f: impl Fn(f32, f32, f32) -> [f32; K]) -> [f32; K] {
    let n = a.len();
    assert!(b.len() == n && c.len() == n);
    let (mut even, mut odd) = ([[0.0f32; LANES]; K], [[0.0f32; LANES]; K]);
    let mut at = 0;
    while at + 2 * LANES <= n {
        let (x, y, z) = (&a[at..at + 2 * LANES], &b[at..at + 2 * LANES], &c[at..at + 2 * LANES]);
        for j in 0..LANES {
            let terms = f(x[j], y[j], z[j]);
            for k in 0..K {
                even[k][j] += terms[k];
            }
        }
        for j in 0..LANES {
            let terms = f(x[LANES + j], y[LANES + j], z[LANES + j]);
            for k in 0..K {
                odd[k][j] += terms[k];
            }
        }
        at += 2 * LANES;
    }
    let mut sums = [0.0f32; K];
    for j in at..n {
        let terms = f(a[j], b[j], c[j]);
        for k in 0..K {
            sums[k] += terms[k];
        }
    }
    for k in 0..K {
        sums[k] += add_lanes(&even[k], &odd[k]);
    }
    sums
}

#[inline(always)]
fn add_lanes(even: &[f32; LANES], odd: &[f32; LANES]) -> f32 {
    let (mut eight, mut four) = ([0.0f32; 8], [0.0f32; 4]);
    for j in 0..8 {
        eight[j] = (even[j] + odd[j]) + (even[j + 8] + odd[j + 8]);
    }
    // Otherwise the compiler sees the tree below and keeps the lanes in pairs, at an eighth of the speed.
    let eight = std::hint::black_box(eight);
    for j in 0..4 {
        four[j] = eight[j] + eight[j + 4];
    }
    (four[0] + four[2]) + (four[1] + four[3])
}

/// The sum over j of f(a[j]): lane by lane, then the lanes in halves.
#[inline(always)]
pub fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let [sum] = sums(a, a, a, |a, _, _| [f(a)]);
    sum
}

/// `by_type_and_architecture!(select, body)` makes `select(dtype, architecture)`: the `#[inline(always)]` function `body`,
/// generic over an [`Element`], for f32, bf16 and f16.
#[macro_export]
macro_rules! by_type_and_architecture {
    ($(#[$doc:meta])* $select:ident, $body:ident) => {
        $(#[$doc])*
        pub fn $select(dtype: tensor::DType, architecture: &str) -> fn(&graph::CpuArgs, usize) {
            $crate::by_architecture!(wide, $body::<f32>);
            $crate::by_architecture!(bf16, $body::<$crate::common::cpu::Bf16>);
            $crate::by_architecture!(f16, $body::<$crate::common::cpu::F16>);
            match dtype {
                tensor::DType::Bf16 => bf16(architecture),
                tensor::DType::F16 => f16(architecture),
                _ => wide(architecture),
            }
        }
    };
}

/// `by_architecture!(select, body)` makes `select(architecture)`: the `#[inline(always)]` function `body` compiled for
/// AVX-512, AVX2 and the build's own instruction set.
#[macro_export]
macro_rules! by_architecture {
    ($(#[$doc:meta])* $select:ident, $body:path) => {
        $(#[$doc])*
        #[expect(unsafe_code, reason = "a function compiled for an instruction set is unsafe to take as a plain one")]
        pub fn $select(architecture: &str) -> fn(&graph::CpuArgs, usize) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
                fn avx512(args: &graph::CpuArgs, part: usize) {
                    $body(args, part)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2(args: &graph::CpuArgs, part: usize) {
                    $body(args, part)
                }
                match architecture {
                    // SAFETY: the device reports an architecture only after detecting its features.
                    "avx512" => return |args, part| unsafe { avx512(args, part) },
                    // SAFETY: as above.
                    "avx2" => return |args, part| unsafe { avx2(args, part) },
                    _ => {}
                }
            }
            |args, part| $body(args, part)
        }
    };
}

/// `fused_or_not!(select module body)` makes `select(architecture)`: the function `body::<FMA>`, with fused multiply-adds
/// where the architecture has them. A processor without them would call a function for each.
#[macro_export]
macro_rules! fused_or_not {
    ($(#[$doc:meta])* $select:ident $module:ident $body:ident) => {
        mod $module {
            use graph::CpuArgs;

            #[inline(always)]
            fn fused(args: &CpuArgs, part: usize) {
                super::$body::<true>(args, part);
            }
            #[inline(always)]
            fn portable(args: &CpuArgs, part: usize) {
                super::$body::<false>(args, part);
            }
            $crate::by_architecture!(select_fused, fused);
            $crate::by_architecture!(select_portable, portable);
        }

        $(#[$doc])*
        pub fn $select(architecture: &str) -> fn(&graph::CpuArgs, usize) {
            match architecture {
                "avx512" | "avx2" => $module::select_fused(architecture),
                _ => $module::select_portable(architecture),
            }
        }
    };
}
