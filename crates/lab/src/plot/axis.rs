//! An axis: its range, where its marks stand, and what they say.

/// Fewer marks say little about what lies between them.
const LEAST_MARKS: usize = 3;

/// A range of values on a line of pixels.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// The lowest value.
    pub low: f64,
    /// The highest.
    pub high: f64,
    /// Values ten times as large are as far apart everywhere.
    pub log: bool,
}

impl Axis {
    /// An axis for values from `low` to `high`, with some room; a range of one value gets a width.
    pub fn new(low: f64, high: f64, log: bool) -> Axis {
        if log {
            let (low, high) = (low.max(1e-30), high.max(1e-30));
            let room = (high / low).powf(0.04).max(1.05);
            return Axis { low: low / room, high: high * room, log };
        }
        let room = if high > low { 0.04 * (high - low) } else { 0.05 * high.abs().max(1e-12) };
        // What is never negative shows no room below zero.
        let bottom = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        Axis { low: bottom, high: high + room, log }
    }

    /// Where a value stands: 0 at the lowest, 1 at the highest.
    pub fn place(&self, value: f64) -> f64 {
        if self.log {
            return (value.max(1e-30) / self.low).ln() / (self.high / self.low).ln();
        }
        (value - self.low) / (self.high - self.low)
    }

    /// Values to mark, about `count`, and three at least where there is room for three.
    pub fn marks(&self, count: usize) -> Vec<f64> {
        if self.log && self.high / self.low >= 10.0 {
            return self.decades(count);
        }
        let mut marks = self.round(count);
        for more in count + 1..=2 * count {
            if marks.len() >= LEAST_MARKS.min(count) {
                break;
            }
            marks = self.round(more);
        }
        marks
    }

    /// Multiples of a round number, so far apart that there are about `count`.
    fn round(&self, count: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let ten = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * ten).find(|s| *s >= rough * 0.999).unwrap_or(ten);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn decades(&self, count: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let few: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (((last - first) as usize) / count.max(1)).max(1);
        let all = (first..=last).step_by(every).flat_map(|e| few.iter().map(move |m| m * 10f64.powi(e)));
        all.filter(|v| *v >= self.low && *v <= self.high).collect()
    }
}

/// A count in a few letters: 800, 1.5k, 2M.
pub fn count(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        v if v >= 1e9 => (value / 1e9, "G"),
        v if v >= 1e6 => (value / 1e6, "M"),
        v if v >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Three digits and no more than the unit's.
    let digits = if scaled.abs() >= 100.0 {
        0
    } else if scaled.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{}{unit}", shortest(scaled, digits))
}

/// A number with about three digits; very small and very large ones with a power of ten.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if !(1e-2..1e5).contains(&v) => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e")
        }
        _ => shortest(value, 3),
    }
}

/// With at most so many digits behind the point, and none that say nothing.
fn shortest(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_inside() {
        let axis = Axis::new(0.0, 400.0, false);
        assert_eq!(axis.marks(5), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert_eq!(Axis { low: 0.9, high: 1100.0, log: true }.marks(6), [1.0, 10.0, 100.0, 1000.0]);
        let one = Axis::new(3e-4, 3e-4, false);
        assert!(one.marks(4).len() >= 2 && one.low < 3e-4 && one.high > 3e-4);
        assert!((axis.place(axis.low), axis.place(axis.high)) == (0.0, 1.0));
    }

    #[test]
    fn there_are_three_marks_where_there_is_room() {
        for high in [1.04, 3.1e-3, 0.62, 742.0, 1441.0, 2.1, 9.9, 55.0] {
            for count in 3..7 {
                let marks = Axis { low: 0.0, high, log: false }.marks(count);
                assert!((3..=2 * count).contains(&marks.len()), "{high} {count}: {marks:?}");
            }
        }
        assert_eq!(Axis { low: 0.0, high: 742.0, log: false }.marks(3), [0.0, 200.0, 400.0, 600.0]);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 800.0, 1500.0, 2e6, 727_808.0].map(count), ["0", "800", "1.5k", "2M", "728k"]);
        assert_eq!([0.0, 3e-4, 0.05, 2.5, 12.0].map(number), ["0", "3e-4", "0.05", "2.5", "12"]);
    }
}
