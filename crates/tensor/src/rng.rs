//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): counter-based random numbers.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Ten Philox rounds: four random words for a counter under a key.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter =
            [(p1 >> 32) as u32 ^ counter[1] ^ key[0], p1 as u32, (p0 >> 32) as u32 ^ counter[3] ^ key[1], p0 as u32];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// A word as a number in [0, 1): its upper 24 bits over 2^24, exact in f32.
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Random numbers of one stream: key (seed, stream), counter (step, element / 4).
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
    step: u64,
}

impl Philox {
    /// The stream named `stream` under `seed`; different names are independent streams.
    pub fn new(seed: u64, stream: &str) -> Self {
        let name = fnv1a(stream);
        let folded = seed ^ name.rotate_left(32);
        Philox { key: [folded as u32, (folded >> 32) as u32 ^ name as u32], step: 0 }
    }

    /// The same stream at `step`.
    pub fn at(self, step: u64) -> Self {
        Philox { step, ..self }
    }

    /// The key, as device kernels take it.
    pub fn key(&self) -> [u32; 2] {
        self.key
    }

    /// The four words of block `block`: elements 4*block to 4*block + 3.
    pub fn block(&self, block: u64) -> [u32; 4] {
        philox4x32([block as u32, (block >> 32) as u32, self.step as u32, (self.step >> 32) as u32], self.key)
    }

    /// Element `i` as a random word.
    pub fn word(&self, i: u64) -> u32 {
        self.block(i / 4)[(i % 4) as usize]
    }

    /// Fills `out` with uniform numbers in [low, high).
    pub fn fill_uniform(&self, out: &mut [f32], low: f32, high: f32) {
        for (b, chunk) in out.chunks_mut(4).enumerate() {
            for (x, w) in chunk.iter_mut().zip(self.block(b as u64)) {
                *x = low + (high - low) * unit(w);
            }
        }
    }

    /// Fills `out` with normal numbers of the given mean and standard deviation (Box-Muller, in f64).
    pub fn fill_normal(&self, out: &mut [f32], mean: f32, deviation: f32) {
        for (b, chunk) in out.chunks_mut(4).enumerate() {
            let w = self.block(b as u64);
            let z = [box_muller(w[0], w[1]), box_muller(w[2], w[3])];
            for (x, z) in chunk.iter_mut().zip(z.as_flattened()) {
                *x = mean + deviation * *z as f32;
            }
        }
    }

    /// A uniform whole number below `bound`, element `i`.
    pub fn below(&self, i: u64, bound: u32) -> u32 {
        ((u64::from(self.word(i)) * u64::from(bound)) >> 32) as u32
    }
}

/// Two independent normal numbers from two words.
pub fn box_muller(a: u32, b: u32) -> [f64; 2] {
    let u = (f64::from(a) + 0.5) / 4_294_967_296.0;
    let v = f64::from(b) / 4_294_967_296.0;
    let r = (-2.0 * u.ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * v).sin_cos();
    [r * cos, r * sin]
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_random123() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([!0; 4], [!0; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn normal_numbers_have_the_right_moments() {
        let mut x = vec![0.0; 100_000];
        Philox::new(1, "test").fill_normal(&mut x, 0.0, 1.0);
        let n = x.len() as f64;
        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.01 && (var - 1.0).abs() < 0.02, "mean {mean}, variance {var}");
    }

    #[test]
    fn streams_and_steps_differ() {
        let a = Philox::new(1, "a");
        assert_ne!(a.word(0), Philox::new(1, "b").word(0));
        assert_ne!(a.word(0), Philox::new(2, "a").word(0));
        assert_ne!(a.word(0), a.at(1).word(0));
    }
}
