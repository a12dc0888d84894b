//! Scales for groups of numbers: sixteen candidates tried at once, each with the best scale for its rounding.
//!
//! For given whole numbers q the scale s that makes the weighted squared error least is known (least squares); which q
//! is best is not, so that several divisors give q by rounding, and the best q with its s wins. The lanes of a vector
//! are the candidates, and sums run over the group in order: the same bits on every machine.
#![forbid(unsafe_code)]

/// Candidates tried at once.
const LANES: usize = 16;

/// To the nearest whole number, to the even one in the middle; for |x| below 2^22.
#[inline(always)]
pub fn round(x: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5 * 2^23: beyond it there are no fractions
    (x + SHIFT) - SHIFT
}

/// `x`, at most `most`.
#[inline(always)]
pub fn at_most(x: f32, most: f32) -> f32 {
    if x < most { x } else { most }
}

/// `x`, at least `least`.
#[inline(always)]
pub fn at_least(x: f32, least: f32) -> f32 {
    if x > least { x } else { least }
}

/// `1 / x`, or 0 where that is not a number that scales anything.
#[inline(always)]
pub fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// The sum of `term(i)` for i below `N`, cut in the same way on every machine.
#[inline(always)]
pub fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    const WIDTH: usize = 8;
    let mut lanes = [0f32; WIDTH];
    for row in 0..N / WIDTH {
        for lane in 0..WIDTH {
            lanes[lane] += term(row * WIDTH + lane);
        }
    }
    for half in [4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// The least and the largest of some numbers.
#[inline(always)]
pub fn extremes<const N: usize>(x: &[f32; N]) -> (f32, f32) {
    const WIDTH: usize = 8;
    let (mut low, mut high) = ([x[0]; WIDTH], [x[0]; WIDTH]);
    for row in 0..N / WIDTH {
        for lane in 0..WIDTH {
            let value = x[row * WIDTH + lane];
            low[lane] = at_most(value, low[lane]);
            high[lane] = at_least(value, high[lane]);
        }
    }
    for lane in 1..WIDTH {
        low[0] = at_most(low[lane], low[0]);
        high[0] = at_least(high[lane], high[0]);
    }
    (low[0], high[0])
}

/// The number of largest magnitude, with its sign.
#[inline(always)]
pub fn largest<const N: usize>(x: &[f32; N]) -> f32 {
    let (low, high) = extremes(x);
    if -low > high { low } else { high }
}

/// The weighted sums that a candidate's scale comes from.
struct Sums {
    /// w x q.
    xq: [f32; LANES],
    /// w q q.
    qq: [f32; LANES],
}

/// The scale of the candidate whose error is least; `fallback` where no candidate has one.
#[inline(always)]
fn best_scale(sums: &Sums, fallback: f32) -> f32 {
    let (mut best, mut scale) = (0.0, fallback);
    for k in 0..LANES {
        let candidate = sums.xq[k] / sums.qq[k];
        let gain = candidate * sums.xq[k];
        if sums.qq[k] > 0.0 && gain > best {
            (best, scale) = (gain, candidate);
        }
    }
    scale
}

/// A scale s for x = s q with q from `-limit` to `limit - 1`, weighted by `w`; 0 where every x is.
#[inline(always)]
pub fn symmetric<const N: usize>(x: &[f32; N], w: &[f32; N], limit: f32) -> f32 {
    let largest = largest(x);
    let mut factors = [0f32; LANES];
    for k in 0..LANES {
        factors[k] = -(limit + (k as f32 - 7.5) * 0.12) * inverse(largest);
    }
    let mut sums = Sums { xq: [0.0; LANES], qq: [0.0; LANES] };
    for i in 0..N {
        let (x, w) = (x[i], w[i]);
        let wx = w * x;
        for k in 0..LANES {
            let q = at_most(at_least(round(factors[k] * x), -limit), limit - 1.0);
            sums.xq[k] += wx * q;
            sums.qq[k] += w * q * q;
        }
    }
    best_scale(&sums, -largest / limit)
}

/// A scale s for x = s q with q from 0 to `limit`, where no x is negative; 0 where every x is.
#[inline(always)]
pub fn positive<const N: usize>(x: &[f32; N], w: &[f32; N], limit: f32) -> f32 {
    let largest = at_least(extremes(x).1, 0.0);
    let mut factors = [0f32; LANES];
    for k in 0..LANES {
        factors[k] = (limit + (k as f32 - 7.5) * 0.1) * inverse(largest);
    }
    let mut sums = Sums { xq: [0.0; LANES], qq: [0.0; LANES] };
    for i in 0..N {
        let (x, w) = (x[i], w[i]);
        let wx = w * x;
        for k in 0..LANES {
            let q = at_most(round(factors[k] * x), limit);
            sums.xq[k] += wx * q;
            sums.qq[k] += w * q * q;
        }
    }
    best_scale(&sums, largest / limit)
}

/// s and m for x = s q - m with q from 0 to `levels` and neither s nor m negative, weighted by `w`.
/// Divisors from `levels - reach` to `levels + reach` are tried, then ones near the best of these, from its m.
#[inline(always)]
pub fn affine<const N: usize>(x: &[f32; N], w: &[f32; N], levels: f32, reach: f32) -> (f32, f32) {
    let (low, high) = extremes(x);
    let low = at_most(low, 0.0);
    let range = high - low;
    if range <= 0.0 {
        return (0.0, -low);
    }
    // In v = x - low: sums of what is near zero lose nothing.
    let mut v = [0f32; N];
    for i in 0..N {
        v[i] = x[i] - low;
    }
    let sums = (sum::<N>(|i| w[i]), sum::<N>(|i| w[i] * v[i]));
    let mut best = Line { error: f32::INFINITY, scale: range / levels, offset: 0.0 };
    let mut factors = [0f32; LANES];
    for k in 0..LANES {
        factors[k] = (levels + reach * (k as f32 - 7.5) / 7.5) * inverse(range);
    }
    lines(&v, w, low, sums, &factors, levels, &mut best);
    for k in 0..LANES {
        factors[k] = (1.0 + NEAR / levels * (k as f32 - 7.5) / 7.5) * inverse(best.scale);
    }
    lines(&v, w, low, sums, &factors, levels, &mut best);
    (best.scale, -(best.offset + low))
}

/// How far divisors of the second round reach, each way.
const NEAR: f32 = 0.3;

/// v = scale q + offset, and its squared error, less what all have in common.
struct Line {
    error: f32,
    scale: f32,
    offset: f32,
}

/// Takes the line of least error, of the best so far and those through q = factor (v - the best's offset), rounded.
#[inline(always)]
fn lines<const N: usize>(
    v: &[f32; N],
    w: &[f32; N],
    low: f32,
    (sum_w, sum_v): (f32, f32),
    factors: &[f32; LANES],
    levels: f32,
    best: &mut Line,
) {
    let from = best.offset;
    let (mut sum_q, mut sum_qq, mut sum_vq) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for i in 0..N {
        let (v, w, shifted) = (v[i], w[i], v[i] - from);
        let wv = w * v;
        for k in 0..LANES {
            let q = at_most(at_least(round(factors[k] * shifted), 0.0), levels);
            let wq = w * q;
            sum_q[k] += wq;
            sum_qq[k] += wq * q;
            sum_vq[k] += wv * q;
        }
    }
    let (mut errors, mut scales, mut offsets) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    for k in 0..LANES {
        let determinant = sum_w * sum_qq[k] - sum_q[k] * sum_q[k];
        let mut scale = (sum_w * sum_vq[k] - sum_v * sum_q[k]) / determinant;
        let mut offset = (sum_qq[k] * sum_v - sum_q[k] * sum_vq[k]) / determinant;
        // x = s q + offset + low must not have a positive constant.
        let allowed = offset <= -low;
        scale = if allowed { scale } else { (sum_vq[k] + low * sum_q[k]) / sum_qq[k] };
        offset = if allowed { offset } else { -low };
        let squares = scale * scale * sum_qq[k] + offset * offset * sum_w;
        errors[k] = squares + 2.0 * (scale * offset * sum_q[k] - scale * sum_vq[k] - offset * sum_v);
        (scales[k], offsets[k]) = (scale, offset);
    }
    for k in 0..LANES {
        if errors[k] < best.error && scales[k] > 0.0 && scales[k].is_finite() {
            *best = Line { error: errors[k], scale: scales[k], offset: offsets[k] };
        }
    }
}

/// Whole s and m for x = d s q - e m with q from 0 to `levels`: of those near the given ones, which must not be beyond
/// `most`, the two that lose least.
#[inline(always)]
pub fn whole_affine<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    (d, e): (f32, f32),
    (s, m): (f32, f32),
    levels: f32,
    most: f32,
) -> (f32, f32) {
    let (mut steps, mut minima, mut factors) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
    let candidate = |k: usize| {
        let near = |x: f32, by: usize| at_most(at_least(x + by as f32 - 1.0, 0.0), most);
        (near(s, k % 4), near(m, k / 4))
    };
    for k in 0..LANES {
        let (s, m) = candidate(k);
        (steps[k], minima[k], factors[k]) = (d * s, e * m, inverse(d * s));
    }
    let mut errors = [0f32; LANES];
    for i in 0..N {
        let (x, w) = (x[i], w[i]);
        for k in 0..LANES {
            let q = at_most(at_least(round((x + minima[k]) * factors[k]), 0.0), levels);
            let error = steps[k] * q - minima[k] - x;
            errors[k] += w * error * error;
        }
    }
    // The given ones, where nothing is better.
    let mut best = 5;
    for k in 0..LANES {
        if errors[k] < errors[best] {
            best = k;
        }
    }
    candidate(best)
}

/// Which share of the mean weight is added to every weight when whole scales are chosen.
const EVEN: f32 = 0.2;

/// A whole s for x = d s q with q from `-limit` to `limit - 1`: of sixteen from `s - 8` on, from `least` to `most`, the
/// one that loses least.
#[inline(always)]
pub fn whole_symmetric<const N: usize>(
    x: &[f32; N],
    w: &[f32; N],
    d: f32,
    s: f32,
    limit: f32,
    (least, most): (f32, f32),
) -> f32 {
    // No number counts for much less than another: how far some are off wouldn't be seen at all.
    let floor = EVEN * sum::<N>(|i| w[i]) / N as f32;
    let (mut steps, mut factors) = ([0f32; LANES], [0f32; LANES]);
    let candidate = |k: usize| at_most(at_least(s + k as f32 - 8.0, least), most);
    for k in 0..LANES {
        (steps[k], factors[k]) = (d * candidate(k), inverse(d * candidate(k)));
    }
    let mut errors = [0f32; LANES];
    for i in 0..N {
        let (x, w) = (x[i], w[i] + floor);
        for k in 0..LANES {
            let error = steps[k] * at_most(at_least(round(factors[k] * x), -limit), limit - 1.0) - x;
            errors[k] += w * error * error;
        }
    }
    let mut best = 8;
    for k in 0..LANES {
        if errors[k] < errors[best] {
            best = k;
        }
    }
    candidate(best)
}
