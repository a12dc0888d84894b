//! Small matrices for attention's CPU kernels: views by address and stride, transposing, and products in registers.

use std::mem::MaybeUninit;

/// Numbers that are computed side by side.
pub const LANES: usize = 16;

/// `n` rounded up to whole lanes.
#[inline(always)]
pub fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

/// Memory on the stack; nothing reads what wasn't written.
#[repr(align(64))]
pub struct Buffer<const N: usize>(MaybeUninit<[f32; N]>);

impl<const N: usize> Buffer<N> {
    #[inline(always)]
    pub fn new() -> Self {
        Buffer(MaybeUninit::uninit())
    }

    /// As rows of `stride`.
    #[inline(always)]
    pub fn rows(&mut self, stride: usize) -> Rows {
        Rows { at: self.0.as_mut_ptr().cast(), stride }
    }
}

/// A matrix by the address of its first element and the distance of its rows.
#[derive(Clone, Copy)]
pub struct Rows {
    pub at: *mut f32,
    pub stride: usize,
}

impl Rows {
    /// Without the first rows and columns.
    #[inline(always)]
    pub fn skip(self, rows: usize, columns: usize) -> Rows {
        Rows { at: self.at.wrapping_add(rows.wrapping_mul(self.stride).wrapping_add(columns)), ..self }
    }

    /// Sets `rows` x `columns` elements.
    ///
    /// # Safety
    /// They are in bounds and nobody else's.
    #[inline(always)]
    pub unsafe fn fill(self, rows: usize, columns: usize, value: f32) {
        for r in 0..rows {
            // SAFETY: as the caller promises.
            unsafe { std::slice::from_raw_parts_mut(self.skip(r, 0).at, columns) }.fill(value);
        }
    }

    /// Scales the first `columns` elements of the first row.
    ///
    /// # Safety
    /// They are in bounds and nobody else's.
    #[inline(always)]
    pub unsafe fn scale(self, columns: usize, factor: f32) {
        // SAFETY: as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.at, columns) }.iter_mut().for_each(|x| *x *= factor);
    }

    /// The dot product of the first `columns` elements of the first rows, lane by lane.
    ///
    /// # Safety
    /// They are in bounds of both.
    #[inline(always)]
    pub unsafe fn dot(self, other: Rows, columns: usize) -> f32 {
        // SAFETY: as the caller promises.
        let (a, b) =
            unsafe { (std::slice::from_raw_parts(self.at, columns), std::slice::from_raw_parts(other.at, columns)) };
        let mut sums = [0.0; LANES];
        let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        for (j, (a, b)) in a.remainder().iter().zip(b.remainder()).enumerate() {
            sums[j] = a * b;
        }
        for (a, b) in a.zip(b) {
            for j in 0..LANES {
                sums[j] += a[j] * b[j];
            }
        }
        halves(sums, |a, b| a + b)
    }
}

/// All lanes in one, by halves.
#[inline(always)]
fn halves(mut lanes: [f32; LANES], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for j in 0..half {
            lanes[j] = with(lanes[j], lanes[j + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// A row of whole lanes in one number: lane by lane, then the lanes by halves.
#[inline(always)]
pub fn fold(row: &[f32], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut chunks = row.chunks_exact(LANES);
    let mut lanes: [f32; LANES] = std::array::from_fn(|j| row[j]);
    chunks.next();
    for chunk in chunks {
        for j in 0..LANES {
            lanes[j] = with(lanes[j], chunk[j]);
        }
    }
    halves(lanes, with)
}

/// to[columns, rows] = from[rows, columns]; to's rows are filled up to whole lanes with zeros.
///
/// # Safety
/// Both are matrices of these sizes, and `to` is nobody else's.
#[inline(always)]
pub unsafe fn transpose(rows: usize, columns: usize, from: Rows, to: Rows) {
    let (whole_rows, whole_columns) = (rows - rows % 4, columns - columns % 4);
    for r in (0..whole_rows).step_by(4) {
        for c in (0..whole_columns).step_by(4) {
            // SAFETY: as the caller promises.
            unsafe { transpose_4x4(from.skip(r, c), to.skip(c, r)) };
        }
    }
    for r in 0..rows {
        for c in if r < whole_rows { whole_columns } else { 0 }..columns {
            // SAFETY: as the caller promises.
            unsafe { *to.skip(c, r).at = *from.skip(r, c).at };
        }
    }
    for c in 0..columns {
        // SAFETY: as the caller promises.
        unsafe { to.skip(c, rows).fill(1, padded(rows) - rows, 0.0) };
    }
}

/// By hand: left alone, the compiler scatters.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub unsafe fn transpose_4x4(from: Rows, to: Rows) {
    use std::arch::x86_64::{
        _mm_loadu_ps, _mm_movehl_ps, _mm_movelh_ps, _mm_storeu_ps, _mm_unpackhi_ps, _mm_unpacklo_ps,
    };
    // SAFETY: 4 x 4 elements of both are in bounds; every x86-64 has these instructions.
    unsafe {
        let [a, b, c, d] = [0, 1, 2, 3].map(|r| _mm_loadu_ps(from.skip(r, 0).at));
        let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
        _mm_storeu_ps(to.at, _mm_movelh_ps(ab, cd));
        _mm_storeu_ps(to.skip(1, 0).at, _mm_movehl_ps(cd, ab));
        let (ab, cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
        _mm_storeu_ps(to.skip(2, 0).at, _mm_movelh_ps(ab, cd));
        _mm_storeu_ps(to.skip(3, 0).at, _mm_movehl_ps(cd, ab));
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub unsafe fn transpose_4x4(from: Rows, to: Rows) {
    for (r, c) in (0..4).flat_map(|r| (0..4).map(move |c| (r, c))) {
        // SAFETY: 4 x 4 elements of both are in bounds.
        unsafe { *to.skip(c, r).at = *from.skip(r, c).at };
    }
}

/// to[rows, columns] = from; to's rows are filled up to whole lanes with zeros.
///
/// # Safety
/// Both are matrices of these sizes, and `to` is nobody else's.
#[inline(always)]
pub unsafe fn pack(rows: usize, columns: usize, from: Rows, to: Rows) {
    for r in 0..rows {
        // SAFETY: as the caller promises.
        let (from, to) = unsafe {
            let to = std::slice::from_raw_parts_mut(to.skip(r, 0).at, padded(columns));
            (std::slice::from_raw_parts(from.skip(r, 0).at, columns), to)
        };
        to[..columns].copy_from_slice(from);
        to[columns..].fill(0.0);
    }
}

/// c[rows, columns] (+)= a[rows, k] b[k, columns]; b's rows can be read in whole lanes.
///
/// # Safety
/// All are matrices of these sizes, and c is nobody else's.
#[inline(always)]
pub unsafe fn product<const FMA: bool>(rows: usize, columns: usize, k: usize, a: Rows, b: Rows, c: Rows, add: bool) {
    for column in (0..columns).step_by(LANES) {
        let (width, b) = (LANES.min(columns - column), b.skip(0, column));
        let mut row = 0;
        // SAFETY: as the caller promises.
        unsafe {
            while rows - row >= 6 {
                block::<FMA, 6>(width, k, a.skip(row, 0), b, c.skip(row, column), add);
                row += 6;
            }
            if rows - row >= 4 {
                block::<FMA, 4>(width, k, a.skip(row, 0), b, c.skip(row, column), add);
                row += 4;
            }
            if rows - row >= 2 {
                block::<FMA, 2>(width, k, a.skip(row, 0), b, c.skip(row, column), add);
                row += 2;
            }
            if rows - row == 1 {
                block::<FMA, 1>(width, k, a.skip(row, 0), b, c.skip(row, column), add);
            }
        }
    }
}

/// `R` rows and one block of lanes of a product, summed in registers in order.
#[inline(always)]
unsafe fn block<const FMA: bool, const R: usize>(width: usize, k: usize, a: Rows, b: Rows, c: Rows, add: bool) {
    let mut sums = [[0.0f32; LANES]; R];
    let b_stride = b.stride;
    // SAFETY: as `product`'s caller promises.
    unsafe {
        if add {
            for r in 0..R {
                sums[r] = load(c.skip(r, 0).at, width);
            }
        }
        let a: [*const f32; R] = std::array::from_fn(|r| a.skip(r, 0).at.cast_const());
        let mut from = b.at;
        for i in 0..k {
            let b = from.cast::<[f32; LANES]>().read_unaligned();
            from = from.wrapping_add(b_stride);
            for r in 0..R {
                let a = *a[r].add(i);
                for j in 0..LANES {
                    sums[r][j] = if FMA { a.mul_add(b[j], sums[r][j]) } else { a * b[j] + sums[r][j] };
                }
            }
        }
        for r in 0..R {
            store(sums[r], c.skip(r, 0).at, width);
        }
    }
}

#[inline(always)]
unsafe fn load(from: *const f32, width: usize) -> [f32; LANES] {
    // SAFETY: `width` elements are in bounds.
    unsafe {
        if width == LANES {
            return from.cast::<[f32; LANES]>().read_unaligned();
        }
        let mut lanes = [0.0; LANES];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), width);
        lanes
    }
}

#[inline(always)]
unsafe fn store(lanes: [f32; LANES], to: *mut f32, width: usize) {
    // SAFETY: `width` elements are in bounds.
    unsafe {
        if width == LANES {
            to.cast::<[f32; LANES]>().write_unaligned(lanes);
        } else {
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, width);
        }
    }
}
