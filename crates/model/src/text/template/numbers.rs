//! Numbers as Python reckons with them: rests and quotients of floats, exact order of whole numbers and floats.

use std::cmp::Ordering;

/// The first float that no `i128` is as large as.
const BEYOND: f64 = 170_141_183_460_469_231_731_687_303_715_884_105_728.0;

/// Quotient and rest of a division that rounds down, as CPython's `float_divmod` has them; `b` isn't 0.
pub(super) fn float_divmod(a: f64, b: f64) -> (f64, f64) {
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0f64.copysign(b);
    } else if (b < 0.0) != (rest < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0f64.copysign(a / b), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

/// `a / b` of whole numbers, rounded once; `b` isn't 0.
pub(super) fn divided(a: i128, b: i128) -> f64 {
    let divisor = b.unsigned_abs().max(1);
    let (mut quotient, mut rest) = (a.unsigned_abs() / divisor, a.unsigned_abs() % divisor);
    // Bits behind the point, until the quotient has more than a float holds.
    let mut places = 0;
    while rest != 0 && quotient < 1 << 64 {
        // Below the divisor, which has 127 bits at most or is 2 to the power of 127.
        rest *= 2;
        quotient = quotient * 2 + u128::from(rest >= divisor);
        rest = if rest >= divisor { rest - divisor } else { rest };
        places += 1;
    }
    // What is left makes a difference only where it would otherwise be a tie.
    let size = (quotient | u128::from(rest != 0)) as f64 * 2f64.powi(-places);
    if (a < 0) != (b < 0) { -size } else { size }
}

/// The order of a whole number and a float, exactly; none for not-a-number.
pub(super) fn order(whole: i128, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    let fraction = 0f64.partial_cmp(&float.fract())?;
    Some(whole.cmp(&(float.trunc() as i128)).then(fraction))
}
