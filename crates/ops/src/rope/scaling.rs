//! Lower frequencies for longer contexts, as in Llama 3.1.

use graph::Params;
use std::f64::consts::TAU;

/// How frequencies are lowered, with the names of Llama 3.1's `rope_scaling`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// What the lowest frequencies are divided by, from 1 on; 1 changes nothing.
    pub factor: f32,
    /// Dimensions that turn at most this often over the original context are divided by the whole factor.
    pub low_freq_factor: f32,
    /// Dimensions that turn at least this often over it stay as they are.
    pub high_freq_factor: f32,
    /// Positions of the original context.
    pub original_max_position: usize,
}

impl Scaling {
    /// Frequencies as they are.
    pub const NONE: Scaling =
        Scaling { factor: 1.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_max_position: 8192 };

    /// What is wrong with it, or nothing.
    pub fn problem(&self) -> Option<String> {
        let (low, high, most) = (self.low_freq_factor, self.high_freq_factor, self.original_max_position);
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Some(format!("factor is {}; expected a number from 1 on", self.factor));
        }
        if most == 0 {
            return Some("original_max_position is 0; expected a number of positions".into());
        }
        if !(low > 0.0 && low <= high && f64::from(high) <= most as f64) {
            let is = format!("low_freq_factor is {low} and high_freq_factor is {high}");
            return Some(format!("{is}; expected 0 < low <= high <= original_max_position, which is {most}"));
        }
        None
    }

    /// These parameters and the scaling's.
    pub(super) fn params(&self, params: Params) -> Params {
        let params = params.with_f32("factor", self.factor).with_f32("low_freq_factor", self.low_freq_factor);
        let params = params.with_f32("high_freq_factor", self.high_freq_factor);
        params.with_u32("original_max_position", self.original_max_position)
    }

    pub(super) fn of(p: &Params) -> Scaling {
        Scaling {
            factor: p.f32("factor"),
            low_freq_factor: p.f32("low_freq_factor"),
            high_freq_factor: p.f32("high_freq_factor"),
            original_max_position: p.u32("original_max_position"),
        }
    }

    /// A frequency in radians a position, lowered.
    pub(super) fn scaled(&self, frequency: f64) -> f64 {
        let [factor, low, high] = [self.factor, self.low_freq_factor, self.high_freq_factor].map(f64::from);
        let turns = frequency / TAU * self.original_max_position as f64;
        let smooth = if turns >= high { 1.0 } else { ((turns - low) / (high - low)).clamp(0.0, 1.0) };
        frequency * ((1.0 - smooth) / factor + smooth)
    }

    /// The same as kernels do it, in pairs of words of 64 bits, high ones first, and a shift. In units of 2^-64 of a turn,
    /// frequencies from the second pair on stay; the others are multiplied by the third, to which is added, for those above
    /// the first, twice the fourth times how far above they are, moved up by the shift. All zeros where nothing changes.
    pub(super) fn words(&self) -> [u32; 9] {
        if self.factor == 1.0 {
            return [0; 9];
        }
        let whole = |x: f64| (x * 2f64.powi(64)) as u64;
        let turns = |factor: f32| whole(f64::from(factor) / self.original_max_position as f64);
        let (slow, fast) = (turns(self.low_freq_factor), turns(self.high_freq_factor));
        let least = 1.0 / f64::from(self.factor);
        let shift = if fast > slow { (fast - slow).leading_zeros() } else { 0 };
        let range = ((fast - slow) << shift) as f64 / 2f64.powi(64);
        // A little less than it is: the sum must stay below 1.
        let slope = if fast > slow { (1.0 - least) / range / 2.0 * (1.0 - 2f64.powi(-40)) } else { 0.0 };
        let pairs = [slow, fast, whole(least), whole(slope)];
        let mut words = [shift; 9];
        for (i, pair) in pairs.into_iter().enumerate() {
            (words[2 * i], words[2 * i + 1]) = ((pair >> 32) as u32, pair as u32);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inverse frequencies of dimensions of Llama 3.1 8B: head_dim 128, theta 500000, factor 8, low_freq_factor 1,
    /// high_freq_factor 4, original_max_position_embeddings 8192. Computed in Python's f64 by the formula of Hugging Face's
    /// `_compute_llama3_parameters`: with w = 2 pi / f, f where w < 8192 / 4, f / 8 where w > 8192, else
    /// (1 - s) f / 8 + s f with s = (8192 / w - 1) / (4 - 1).
    #[rustfmt::skip]
    const GOLDEN: [(i32, f64); 9] = [
        (0, 1.0),
        (20, 0.016560440080994446),
        (28, 0.0032114459947525913),
        (29, 0.002166570763503359),
        (31, 0.0008567514129196321),
        (33, 0.00031269375038406517),
        (35, 9.556212353964683e-05),
        (40, 3.428102195952591e-05),
        (63, 3.068925988914511e-07),
    ];

    #[test]
    fn frequencies_are_those_of_llama_3_1() {
        let llama = Scaling { factor: 8.0, ..Scaling::NONE };
        for (i, want) in GOLDEN {
            let got = llama.scaled(500_000f64.powf(-f64::from(i) / 64.0));
            assert!((got / want - 1.0).abs() < 1e-12, "dimension {i}: {got} instead of {want}");
        }
    }

    #[test]
    fn no_scaling_gives_no_words() {
        assert_eq!(Scaling::NONE.words(), [0; 9]);
        assert_eq!(Scaling::NONE.problem(), None);
        let wrong = Scaling { low_freq_factor: 5.0, ..Scaling::NONE };
        assert!(wrong.problem().expect("it is wrong").contains("low_freq_factor is 5"));
        assert!(Scaling { factor: f32::NAN, ..Scaling::NONE }.problem().is_some());
        assert!(Scaling { original_max_position: 0, ..Scaling::NONE }.problem().is_some());
    }
}
