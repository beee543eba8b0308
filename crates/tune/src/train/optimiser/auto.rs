//! The choice of optimiser and learning rate under `optimizer=auto`.

use super::Kind;

/// Steps of a nominal batch above which auto takes MuSGD.
const LONG_RUN: usize = 10_000;
/// The nominal batch.
const NOMINAL: usize = 64;

/// What the user asked for; `None` leaves it to the recipe.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wish {
    /// The optimiser; `None` is auto.
    pub kind: Option<Kind>,
    /// Learning rate.
    pub lr0: Option<f64>,
    /// Momentum, or Adam's first decay rate.
    pub momentum: Option<f64>,
    /// Learning rate of biases at the start of the warm-up.
    pub warmup_bias_lr: Option<f64>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The optimiser.
    pub kind: Kind,
    /// Learning rate at the start.
    pub lr0: f64,
    /// Momentum, or Adam's first decay rate.
    pub momentum: f64,
    /// Learning rate of biases at the start of the warm-up.
    pub warmup_bias_lr: f64,
    /// One sentence for the log: what runs, and why.
    pub reason: String,
}

/// Settles optimiser and rates for `images` training images of `nc` classes in batches of `batch` over `epochs`.
///
/// auto takes AdamW at .002 * 5 / (4 + nc), or MuSGD at .01 for runs of over 10,000 nominal batches, both with
/// no raised rate for biases. AdamW's first decay rate is then .9; MuSGD's momentum is that which the warm-up ends at,
/// .937 (the reference builds it with .9, which its warm-up overwrites). Whatever the user gave holds.
pub fn choose(wish: Wish, nc: usize, images: usize, batch: usize, epochs: usize) -> Choice {
    let steps = images.div_ceil(batch.max(NOMINAL)).saturating_mul(epochs);
    let (kind, lr0, momentum, warmup_bias_lr, why) = match wish.kind {
        Some(kind) => (kind, 0.01, 0.937, 0.1, "as asked".to_owned()),
        None if steps > LONG_RUN => {
            (Kind::MuSgd, 0.01, 0.937, 0.0, format!("auto: {steps} nominal batches, over {LONG_RUN}"))
        }
        None => {
            let rate = 0.002 * 5.0 / (4.0 + nc as f64);
            let rate = (rate * 1e6).round_ties_even() / 1e6;
            (Kind::AdamW, rate, 0.9, 0.0, format!("auto: {steps} nominal batches, not over {LONG_RUN}"))
        }
    };
    let source = |given: Option<f64>| if given.is_some() { ", given" } else { "" };
    let reason = format!(
        "{} ({why}), learning rate {}{}, momentum {}{}",
        kind.name(),
        wish.lr0.unwrap_or(lr0),
        source(wish.lr0),
        wish.momentum.unwrap_or(momentum),
        source(wish.momentum),
    );
    Choice {
        kind,
        lr0: wish.lr0.unwrap_or(lr0),
        momentum: wish.momentum.unwrap_or(momentum),
        warmup_bias_lr: wish.warmup_bias_lr.unwrap_or(warmup_bias_lr),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_as_the_reference_chooses() {
        let small = choose(Wish::default(), 3, 35, 8, 60);
        assert_eq!(
            (small.kind, small.lr0, small.momentum, small.warmup_bias_lr),
            (Kind::AdamW, 0.001429, 0.9, 0.0)
        );
        assert_eq!(
            small.reason,
            "AdamW (auto: 60 nominal batches, not over 10000), learning rate 0.001429, momentum 0.9"
        );
        // 100 batches of 64 an epoch: 10,000 is not over the limit, 10,100 is.
        assert_eq!(choose(Wish::default(), 1, 6400, 16, 100).kind, Kind::AdamW);
        let long = choose(Wish::default(), 1, 6400, 16, 101);
        assert_eq!(
            (long.kind, long.lr0, long.momentum, long.warmup_bias_lr),
            (Kind::MuSgd, 0.01, 0.937, 0.0)
        );
        // A batch above 64 makes fewer steps.
        assert_eq!(choose(Wish::default(), 1, 6400, 128, 101).kind, Kind::AdamW);
    }

    #[test]
    fn every_choice_of_the_reference() {
        let schedule = crate::train::fixture::json("train/schedule.json");
        let choices = schedule["auto"].as_array().expect("a list");
        assert!(choices.len() > 30);
        for want in choices {
            let count = |key: &str| want[key].as_u64().expect("a count") as usize;
            let got = choose(Wish::default(), count("nc"), count("images"), count("batch"), count("epochs"));
            assert_eq!(Some(got.kind.name()), want["optimizer"].as_str(), "{want}");
            assert_eq!(Some(got.lr0), want["lr"].as_f64(), "{want}");
            assert_eq!(Some(got.warmup_bias_lr), want["warmup_bias_lr"].as_f64(), "{want}");
            if got.kind == Kind::AdamW {
                assert_eq!(Some(got.momentum), want["momentum"].as_f64(), "{want}");
            }
        }
    }

    #[test]
    fn what_the_user_gave_holds() {
        let wish = Wish { lr0: Some(0.0005), ..Wish::default() };
        let auto = choose(wish, 80, 100, 16, 10);
        assert_eq!((auto.kind, auto.lr0), (Kind::AdamW, 0.0005));
        assert!(auto.reason.contains("learning rate 0.0005, given"), "{}", auto.reason);
        let wish = Wish { kind: Some(Kind::Sgd), momentum: Some(0.8), ..Wish::default() };
        let sgd = choose(wish, 80, 100, 16, 10);
        assert_eq!((sgd.kind, sgd.lr0, sgd.momentum, sgd.warmup_bias_lr), (Kind::Sgd, 0.01, 0.8, 0.1));
    }

    #[test]
    fn names_are_found_in_any_case() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(&kind.name().to_lowercase()), Some(kind));
        }
        assert_eq!(Kind::from_name("auto"), None);
    }
}
