//! Functions that the standard library lacks or that must vectorise: exp, erf, tanh.

/// e^x in f32, within 2 units in the last place; vectorises. Cody-Waite reduction and a degree-6 polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.336_55, 88.722_83);
    // Adding 1.5 * 2^23 rounds to a whole number in the low bits; a cast, which saturates, would not vectorise.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.388_888_9e-3;
    let p = p * r + 8.333_334e-3;
    let p = p * r + 4.166_666_8e-2;
    let p = p * r + 1.666_666_7e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // Two factors keep 2^128 / 2 and subnormal results in range.
    let n = (shifted.to_bits() as i32).wrapping_sub(0x4b40_0000);
    let half = n >> 1;
    let scale = |k: i32| f32::from_bits((k.wrapping_add(127) << 23) as u32);
    p * scale(half) * scale(n.wrapping_sub(half))
}

/// erf(x) in f32, absolute error below 4e-7: x P(x^2) / Q(x^2) on [-4, 4], fitted by least squares of the relative error.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let u = x * x;
    let p = 2.001_269_1e-6;
    let p = p * u + 2.828_363_6e-4;
    let p = p * u + 3.803_928_2e-3;
    let p = p * u + 5.285_414e-2;
    let p = p * u + 1.916_859_5e-1;
    let p = p * u + std::f32::consts::FRAC_2_SQRT_PI;
    let q = 3.748_105e-5;
    let q = q * u + 1.166_482_1e-3;
    let q = q * u + 1.504_717_3e-2;
    let q = q * u + 1.145_801_4e-1;
    let q = q * u + 5.032_101e-1;
    let q = q * u + 1.0;
    x * p / q
}

/// The derivative of gelu at x, Phi(x) + x phi(x), in f32, absolute error below 4e-7: 1/2 + x P(x^2) / Q(x^2) on
/// [-5.8, 5.8], fitted by least squares of the absolute error.
#[inline(always)]
pub fn gelu_derivative(x: f32) -> f32 {
    let x = x.clamp(-5.8, 5.8);
    let u = x * x;
    let p = 1.943_189_8e-7;
    let p = p * u + 3.607_567_6e-5;
    let p = p * u + 1.843_042_8e-5;
    let p = p * u + 1.423_743e-2;
    let p = p * u - 3.102_389_1e-2;
    let p = p * u + 7.978_852e-1;
    let q = 8.998_81e-6;
    let q = q * u + 1.921_862_3e-4;
    let q = q * u + 3.523_552e-3;
    let q = q * u + 4.097_818_4e-2;
    let q = q * u + 2.944_580_2e-1;
    let q = q * u + 1.0;
    0.5 + x * p / q
}

/// erf(x) in f64: 2/sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!, whose terms all have one sign.
pub fn erf_f64(x: f64) -> f64 {
    if x.abs() > 6.5 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) / want - 1.0).abs() < 2.4e-7, "exp({x}) = {} instead of {want}", exp(x));
        }
    }

    #[test]
    fn gelu_derivative_is_close() {
        for i in -100_000..100_000 {
            let x = i as f32 * 1e-4;
            let wide = f64::from(x);
            let density = (-0.5 * wide * wide).exp() / std::f64::consts::TAU.sqrt();
            let want = 0.5 * (1.0 + erf_f64(wide * std::f64::consts::FRAC_1_SQRT_2)) + wide * density;
            assert!((f64::from(gelu_derivative(x)) - want).abs() < 4e-7, "at {x}");
        }
        assert!(gelu_derivative(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_close() {
        for i in -60_000..60_000 {
            let x = i as f32 * 1e-4;
            assert!((f64::from(erf(x)) - erf_f64(f64::from(x))).abs() < 4e-7, "erf({x})");
        }
        assert!((erf_f64(1.0) - 0.842_700_792_949_714_9).abs() < 1e-15);
        assert!((erf_f64(-0.1) + 0.112_462_916_018_284_9).abs() < 1e-15);
    }
}
