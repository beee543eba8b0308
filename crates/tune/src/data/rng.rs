//! Counter-based random numbers: (seed, epoch, sample, purpose) -> numbers, with no state to save or share.
//!
//! Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A number depends on
//! its address alone, so a sample gets the same augmentation with any number of threads and after any resume.

/// What a stream of numbers is for. Streams of different purposes are independent; the codes are part of the
/// training run's reproducibility and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The order of the samples in an epoch (sample 0).
    Order = 1,
    /// Whether a sample is a mosaic, its centre and its partners.
    Mosaic = 2,
    /// The affine or perspective map.
    Affine = 3,
    /// Hue, saturation and value gains.
    Hsv = 4,
    /// Flips.
    Flip = 5,
    /// Whether to mix up, with which item and in what ratio.
    MixUp = 6,
    /// The mosaic of the mixed-in sample.
    MixUpMosaic = 7,
    /// The map of the mixed-in sample.
    MixUpAffine = 8,
    /// Whether to cut and mix, with which item and which areas.
    CutMix = 9,
    /// The mosaic of the cut-in sample.
    CutMixMosaic = 10,
    /// The map of the cut-in sample.
    CutMixAffine = 11,
    /// The size of a batch under `multi_scale` (the sample is the batch's number).
    BatchSize = 12,
    /// The initial values of new parameters (the sample is the parameter's number).
    Init = 13,
    /// The drawn batches of a benchmark.
    Benchmark = 14,
    /// The part of an image that a classifier sees.
    Crop = 40,
    /// Which operations of RandAugment run, and which way.
    RandAugment = 41,
    /// The rectangle that is erased.
    Erase = 42,
    /// The samples that a bootstrap interval draws.
    Bootstrap = 43,
    /// The order in which a search tries its candidates.
    Search = 60,
}

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Draw {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Draw {
    /// The stream at this address. Two streams with different addresses share no block of numbers.
    pub fn new(seed: u64, epoch: u32, sample: u32, purpose: Purpose) -> Draw {
        let key = [seed as u32, (seed >> 32) as u32];
        Draw { key, counter: [0, purpose as u32, sample, epoch], block: [0; 4], used: 4 }
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        let high = u64::from(self.bits()) << 32;
        let bits = high | u64::from(self.bits());
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [low, high); `low` where both are equal.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// True with probability `p`: never at 0, always at 1.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Uniform in 0..n without bias (Lemire, "Fast random integer generation in an interval", 2019). 0 for n = 0.
    pub fn below(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u64::from(self.bits()) * u64::from(n);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Beta(a, a) for a >= 1, as a ratio of two gamma variates.
    pub fn beta(&mut self, a: f64) -> f64 {
        let x = self.gamma(a);
        let y = self.gamma(a);
        x / (x + y)
    }

    /// Gamma(a, 1) for a >= 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
    fn gamma(&mut self, a: f64) -> f64 {
        let d = a - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v <= 0.0 {
                continue;
            }
            let u = 1.0 - self.unit();
            if u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

/// Philox4x32 with 10 rounds: a bijection of the counter under the key.
fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p = u64::from(a) * 0xD251_1F53;
        let q = u64::from(c) * 0xCD9E_8D57;
        (a, b, c, d) = ((q >> 32) as u32 ^ b ^ k0, q as u32, (p >> 32) as u32 ^ d ^ k1, p as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// A random permutation of 0..n, addressed by (seed, epoch) (Fisher and Yates).
pub fn permutation(seed: u64, epoch: u32, n: u32) -> Vec<u32> {
    let mut draw = Draw::new(seed, epoch, 0, Purpose::Order);
    let mut order: Vec<u32> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i as usize, draw.below(i + 1) as usize);
    }
    order
}

/// What process `rank` of `world` (one a device) works through in this epoch, out of 0..n: every `world`-th entry of
/// one common permutation. The permutation is continued from its start to a multiple of `world`, so that all
/// processes take equally many steps.
pub fn epoch_order(seed: u64, epoch: u32, n: u32, rank: u32, world: u32) -> Vec<u32> {
    let order = permutation(seed, epoch, n);
    share(&order, rank, world)
}

/// Every `world`-th entry from `rank` on, the list being continued from its start to a multiple of `world`.
pub(crate) fn share(order: &[u32], rank: u32, world: u32) -> Vec<u32> {
    let world = world.max(1) as usize;
    let steps = order.len().div_ceil(world);
    (0..steps).map(|i| order[(i * world + rank as usize) % order.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn every_part_of_the_address_matters() {
        let first = |seed, epoch, sample, purpose| Draw::new(seed, epoch, sample, purpose).unit().to_bits();
        let base = first(1, 2, 3, Purpose::Hsv);
        assert_eq!(base, first(1, 2, 3, Purpose::Hsv));
        for other in [
            first(2, 2, 3, Purpose::Hsv),
            first(1 << 32 | 1, 2, 3, Purpose::Hsv),
            first(1, 3, 3, Purpose::Hsv),
            first(1, 2, 4, Purpose::Hsv),
            first(1, 2, 3, Purpose::Flip),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 40_000;
        let mut draw = Draw::new(7, 0, 0, Purpose::Init);
        let moments = |mut f: Box<dyn FnMut() -> f64 + '_>| {
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..n {
                let x = f();
                sum += x;
                squares += x * x;
            }
            let mean = sum / n as f64;
            (mean, squares / n as f64 - mean * mean)
        };
        let (mean, variance) = moments(Box::new(|| draw.uniform(2.0, 4.0)));
        assert!((mean - 3.0).abs() < 0.02 && (variance - 1.0 / 3.0).abs() < 0.01, "{mean} {variance}");
        let (mean, variance) = moments(Box::new(|| draw.normal()));
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
        // Beta(a, a) has variance 1 / (4 (2a + 1)).
        let (mean, variance) = moments(Box::new(|| draw.beta(32.0)));
        assert!((mean - 0.5).abs() < 0.003 && (variance - 1.0 / 260.0).abs() < 2e-4, "{mean} {variance}");
        let (mean, variance) = moments(Box::new(|| draw.beta(1.0)));
        assert!((mean - 0.5).abs() < 0.01 && (variance - 1.0 / 12.0).abs() < 3e-3, "{mean} {variance}");
        let (mean, _) = moments(Box::new(|| f64::from(draw.below(10))));
        assert!((mean - 4.5).abs() < 0.08, "{mean}");
    }

    #[test]
    fn an_order_is_a_permutation_and_ranks_share_it() {
        let mut order = permutation(3, 1, 101);
        assert_ne!(order, permutation(3, 2, 101));
        let ranks: Vec<Vec<u32>> = (0..4).map(|rank| epoch_order(3, 1, 101, rank, 4)).collect();
        for (i, &item) in order.iter().enumerate() {
            assert_eq!(ranks[i % 4][i / 4], item);
        }
        assert!(ranks.iter().all(|rank| rank.len() == 26));
        assert_eq!(ranks[1][25], order[0]);
        assert_eq!(epoch_order(3, 1, 101, 0, 1), order);
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<u32>>());
        assert!(permutation(0, 0, 0).is_empty() && epoch_order(0, 0, 0, 0, 2).is_empty());
    }
}
