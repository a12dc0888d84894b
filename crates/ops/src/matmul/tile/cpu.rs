//! A tile of a product: 6 x 64 sums in registers, and how panels get their form.
#![expect(unsafe_code, reason = "micro-kernels over raw panels")]

use crate::matmul::lane::{Lane, PANEL};

/// Rows of a tile.
pub const ROWS: usize = 6;
/// Elements of a cache line: the terms between two fetches.
const LINE: usize = 16;
/// Rows ahead that are fetched at once.
const FETCHED: usize = 2;

/// A broadcast operand: element (row, term) lies at `row * row_stride + term * term_stride`.
#[derive(Clone, Copy)]
pub struct Broadcast {
    pub at: *const f32,
    pub row_stride: usize,
    pub term_stride: usize,
}

/// Where sums go: row r's 64 columns lie at `at + r * stride`.
#[derive(Clone, Copy)]
pub struct Sums {
    pub at: *mut f32,
    pub stride: usize,
    /// The sums are added to what is there.
    pub accumulate: bool,
}

/// Rows that will be touched next, to be fetched into the cache meanwhile.
#[derive(Clone, Copy)]
pub struct Ahead {
    pub at: *const f32,
    pub stride: usize,
    pub rows: usize,
    pub width: usize,
}

impl Ahead {
    pub const NOTHING: Ahead = Ahead { at: std::ptr::null(), stride: 0, rows: 0, width: 0 };

    /// Rows `from..from + count` of these.
    #[inline(always)]
    unsafe fn fetch<L: Lane>(&self, from: usize, count: usize) {
        for row in from..self.rows.min(from + count) {
            for x in (0..self.width).step_by(LINE) {
                // SAFETY: fetching an address that is not there does nothing.
                unsafe { L::fetch(self.at.wrapping_add(row * self.stride + x)) };
            }
        }
    }

    /// These without the first `count`.
    fn after(&self, count: usize) -> Ahead {
        let count = count.min(self.rows);
        Ahead { at: self.at.wrapping_add(count * self.stride), rows: self.rows - count, ..*self }
    }
}

/// sums[r][x] (+)= sum over terms of s[r, p] v[p, x] for R rows and 64 columns, V vectors at a time.
///
/// # Safety
/// `v` holds `terms` rows of `PANEL` elements, `s` as many terms of R rows, and `c` R rows.
#[inline(always)]
unsafe fn tile<L: Lane, const V: usize, const R: usize>(
    terms: usize,
    s: Broadcast,
    v: *const f32,
    c: Sums,
    ahead: [Ahead; 2],
) {
    // SAFETY: the caller's promise covers every address that is read or written; fetching ahead touches nothing.
    unsafe {
        let mut column = 0;
        while column < PANEL {
            let mut sums = [[L::zero(); V]; R];
            let mut from = 0;
            while from < terms {
                if column == 0 {
                    fetch::<L, R>(from, s, c, ahead);
                }
                let to = terms.min(from + LINE);
                for p in from..to {
                    let mut vectors = [L::zero(); V];
                    for x in 0..V {
                        vectors[x] = L::load(v.add(p * PANEL + column + x * L::WIDTH));
                    }
                    for r in 0..R {
                        let value = L::splat(*s.at.add(r * s.row_stride + p * s.term_stride));
                        for x in 0..V {
                            sums[r][x] = L::multiply_add(value, vectors[x], sums[r][x]);
                        }
                    }
                }
                from = to;
            }
            for r in 0..R {
                for x in 0..V {
                    let at = c.at.add(r * c.stride + column + x * L::WIDTH);
                    let sum = if c.accumulate { L::add(L::load(at), sums[r][x]) } else { sums[r][x] };
                    L::store(at, sum);
                }
            }
            column += V * L::WIDTH;
        }
    }
}

/// Fetches what the tile and the ones after it need: at its start the lines of its sums; then, every `LINE` terms, the
/// same terms of the next tile's rows and some rows of what is `ahead`.
#[inline(always)]
unsafe fn fetch<L: Lane, const R: usize>(from: usize, s: Broadcast, c: Sums, ahead: [Ahead; 2]) {
    // SAFETY: fetching an address that is not there does nothing.
    unsafe {
        if from == 0 {
            for r in 0..R {
                for x in (0..PANEL).step_by(LINE) {
                    L::fetch_to_write(c.at.wrapping_add(r * c.stride + x));
                }
            }
        }
        if s.term_stride == 1 {
            for r in R..2 * R {
                L::fetch(s.at.wrapping_add(r * s.row_stride + from));
            }
        }
        ahead[0].fetch::<L>(from / LINE * FETCHED, FETCHED);
        ahead[1].fetch::<L>(from / LINE * FETCHED, FETCHED);
    }
}

/// All rows of `rows`, in tiles of at most `ROWS`.
///
/// # Safety
/// As for `tile`, for all rows.
#[inline(always)]
pub unsafe fn tiles<L: Lane, const V: usize>(
    rows: usize,
    terms: usize,
    s: Broadcast,
    v: *const f32,
    c: Sums,
    mut ahead: [Ahead; 2],
) {
    let mut done = 0;
    while done < rows {
        let left = rows - done;
        // Two tiles of 4 are faster than one of 6 and one of 2.
        let now = if left == ROWS + 2 { 4 } else { left.min(ROWS) };
        // SAFETY: the caller's promise, from row `done` on.
        unsafe {
            let s = Broadcast { at: s.at.add(done * s.row_stride), ..s };
            let c = Sums { at: c.at.add(done * c.stride), ..c };
            match now {
                6 => tile::<L, V, 6>(terms, s, v, c, ahead),
                5 => tile::<L, V, 5>(terms, s, v, c, ahead),
                4 => tile::<L, V, 4>(terms, s, v, c, ahead),
                3 => tile::<L, V, 3>(terms, s, v, c, ahead),
                2 => tile::<L, V, 2>(terms, s, v, c, ahead),
                _ => tile::<L, V, 1>(terms, s, v, c, ahead),
            }
        }
        ahead = ahead.map(|a| a.after(terms.div_ceil(LINE) * FETCHED));
        done += now;
    }
}

/// Copies columns `from..from + width` of `terms` rows into a panel, and zeros beside them.
///
/// # Safety
/// `b` holds `terms` rows of `stride` elements, `panel` as many rows of `PANEL`.
#[inline(always)]
pub unsafe fn copy_panel(b: *const f32, stride: usize, terms: usize, width: usize, panel: *mut f32) {
    for p in 0..terms {
        // SAFETY: the caller's promise.
        unsafe {
            let (from, to) = (b.add(p * stride), panel.add(p * PANEL));
            if width == PANEL {
                std::ptr::copy_nonoverlapping(from, to, PANEL);
            } else {
                std::ptr::copy_nonoverlapping(from, to, width);
                std::ptr::write_bytes(to.add(width), 0, PANEL - width);
            }
        }
    }
}

/// to[x, y] = from[y, x] for `rows` x `columns` elements of `from`.
///
/// # Safety
/// Both hold as many rows at their strides.
#[inline(always)]
pub unsafe fn transpose<L: Lane>(
    from: *const f32,
    from_stride: usize,
    rows: usize,
    columns: usize,
    to: *mut f32,
    to_stride: usize,
) {
    for y in (0..rows).step_by(16) {
        for x in (0..columns).step_by(16) {
            // SAFETY: the caller's promise; only whole blocks of 16 x 16 go to the lane's own transpose.
            unsafe {
                let (source, target) = (from.add(y * from_stride + x), to.add(x * to_stride + y));
                if y + 16 <= rows && x + 16 <= columns {
                    L::transpose_16(source, from_stride, target, to_stride);
                    continue;
                }
                for i in 0..16.min(rows - y) {
                    for j in 0..16.min(columns - x) {
                        *target.add(j * to_stride + i) = *source.add(i * from_stride + j);
                    }
                }
            }
        }
    }
}
