//! How a family's one layer list becomes models of different size.

use std::fmt;

/// The published sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Scale {
    N,
    S,
    M,
    L,
    X,
}

impl Scale {
    /// Every scale, smallest first.
    pub const ALL: [Scale; 5] = [Scale::N, Scale::S, Scale::M, Scale::L, Scale::X];

    /// The letter in model names.
    pub fn letter(self) -> char {
        match self {
            Scale::N => 'n',
            Scale::S => 's',
            Scale::M => 'm',
            Scale::L => 'l',
            Scale::X => 'x',
        }
    }

    /// The scale of that (lower-case) letter.
    pub fn from_letter(letter: char) -> Option<Scale> {
        Scale::ALL.into_iter().find(|scale| scale.letter() == letter)
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter())
    }
}

/// Multiples that turn a family's layer list into one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// Factor of the repeats of each block.
    pub depth: f64,
    /// Factor of the channels.
    pub width: f64,
    /// Channels are cut to this before the factor applies.
    pub max_channels: usize,
}

impl Scaling {
    /// A layer's channels: `min(listed, max_channels) * width`, rounded up to a multiple of 8.
    pub fn channels(&self, listed: usize) -> usize {
        let scaled = listed.min(self.max_channels) as f64 * self.width;
        (scaled / 8.0).ceil() as usize * 8
    }

    /// A block's repeats: `listed * depth`, rounded half to even, at least 1.
    pub fn repeats(&self, listed: usize) -> usize {
        if listed > 1 { ((listed as f64 * self.depth).round_ties_even() as usize).max(1) } else { listed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_capped_scaled_and_rounded_up_to_eights() {
        let medium = Scaling { depth: 0.67, width: 0.75, max_channels: 768 };
        assert_eq!(medium.channels(1024), 576);
        assert_eq!(medium.channels(64), 48);
        assert_eq!(Scaling { width: 0.1, ..medium }.channels(64), 8);
    }

    #[test]
    fn repeats_round_half_to_even_and_stay_positive() {
        let scaling = |depth| Scaling { depth, width: 1.0, max_channels: 1024 };
        assert_eq!(scaling(0.33).repeats(6), 2);
        assert_eq!(scaling(0.67).repeats(3), 2);
        assert_eq!(scaling(0.75).repeats(6), 4); // 4.5
        assert_eq!(scaling(0.01).repeats(6), 1);
        assert_eq!(scaling(0.01).repeats(1), 1);
    }
}
