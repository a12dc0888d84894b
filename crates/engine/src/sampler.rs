//! How the next token is chosen.

/// Parameters of `ops::sample`: temperature, then top-k, top-p and min-p, in the order of vLLM and Hugging Face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the largest.
    pub temperature: f32,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this share as likely as the likeliest; 0 for all.
    pub min_p: f32,
    /// Seed of the draws. The same seed, model and prompt give the same tokens.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token, always.
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };

    /// What is wrong with it, or nothing.
    pub fn problem(&self) -> Option<String> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Some(format!("temperature is {}; it must be 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Some(format!("top_p is {}; it must be above 0 and at most 1", self.top_p));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Some(format!("min_p is {}; it must be from 0 to 1", self.min_p));
        }
        None
    }
}

impl Default for Sampling {
    /// What suits a base model: temperature 0.8, top-p 0.95, seed 0.
    fn default() -> Self {
        Sampling { temperature: 0.8, top_k: 0, top_p: 0.95, min_p: 0.0, seed: 0 }
    }
}
