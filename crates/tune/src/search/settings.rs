//! The arguments of a search, beside those of the training that it searches for.

use super::candidate::Strength;
use crate::train::recipe::table::{self, Check, Field, any, items};
use crate::train::recipe::values::Strategy;

crate::arguments! {
    /// The arguments of `tune` that a person gave.
    TuneArgs,
    /// How a search goes.
    Settings {
        "Search" {
            /// Minutes that the search may take. It stops in time, whatever is left to try.
            minutes: f64 = 60.0, table::positive;
            /// Measure on so many parts of the training images, each of which the run that it measures has not seen; the
            /// validation images stay unseen. 5 unless `seeds` is given.
            folds: Option<u32> = None, two_or_more;
            /// Measure on the validation images instead, with so many seeds.
            seeds: Option<u32> = None, two_or_more;
            /// Most candidates to begin with.
            candidates: u32 = 27, table::at_least_one;
            /// Strategies to try; by default default, head, freeze, full and gradual. With strategy= that one alone.
            strategies: Option<Strategies> = None, any;
            /// Learning rates to try, as multiples of what the strategy would take; by default 1, 0.33 and 3. With lr0=
            /// that rate alone.
            rates: Option<RateFactors> = None, any;
            /// Strengths of augmentation to try, of light, usual and strong; by default all. With an augmentation argument
            /// as it is given.
            augment: Option<Strengths> = None, any;
            /// Sizes of the network's input to try; by default three quarters and five quarters of the usual one, too. With
            /// imgsz= that size alone.
            sizes: Option<Sizes> = None, any;
        }
    }
}

fn two_or_more(value: &Option<u32>) -> Check {
    if value.is_none_or(|v| (2..=100).contains(&v)) { Ok(()) } else { Err("from 2 to 100") }
}

/// Parts of the training images where nothing is said.
pub const FOLDS: u32 = 5;

/// Defines a list of values that are written with commas between them.
macro_rules! list {
    ($(#[$meta:meta])* $name:ident($item:ty), $value:literal, $expected:expr, $parse:expr, $emit:expr) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name(pub Vec<$item>);

        impl Field for $name {
            const VALUE: &'static str = $value;
            fn parse(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Option<$item> = $parse;
                let found: Option<Vec<$item>> = items(text).map(parse).collect();
                found.filter(|list| !list.is_empty()).map($name).ok_or_else(|| String::from($expected))
            }
            fn emit(&self) -> String {
                let emit: fn(&$item) -> String = $emit;
                format!("[{}]", self.0.iter().map(emit).collect::<Vec<_>>().join(", "))
            }
        }
    };
}

list!(
    /// Strategies by name.
    Strategies(Strategy), "LIST", "a list of default, head, freeze, full, gradual and auto",
    |text| Strategy::parse(text).ok(), |strategy| strategy.emit()
);
list!(
    /// Multiples of a learning rate.
    RateFactors(f64), "LIST", "a list of numbers above 0, such as 0.3,1,3",
    |text| f64::parse(text).ok().filter(|v| *v > 0.0), |factor| factor.to_string()
);
list!(
    /// Strengths of augmentation by name.
    Strengths(Strength), "LIST", "a list of light, usual and strong",
    |text| Strength::ALL.into_iter().find(|s| s.word().eq_ignore_ascii_case(text)),
    |strength| strength.word().to_owned()
);
list!(
    /// Input sizes in pixels.
    Sizes(u32), "LIST", "a list of multiples of 32 from 32 to 8192, such as 320,416",
    |text| text.parse().ok().filter(|size| table::image_size(size).is_ok()), |size| size.to_string()
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_and_wrong_ones_say_what_is_allowed() {
        let mut args = TuneArgs::default();
        for (name, text) in
            [("strategies", "head,full"), ("rates", "[0.5, 1]"), ("augment", "light"), ("sizes", "320,416")]
        {
            args.set(name, text).unwrap();
        }
        assert_eq!(args.strategies.clone().flatten().unwrap().0, [Strategy::Head, Strategy::Full]);
        assert_eq!(args.rates.clone().flatten().unwrap().emit(), "[0.5, 1]");
        for (name, text, expected) in [
            ("strategies", "hed", "a list of default, head"),
            ("rates", "0", "numbers above 0"),
            ("augment", "much", "light, usual and strong"),
            ("sizes", "100", "multiples of 32"),
            ("folds", "1", "from 2 to 100"),
            ("minutes", "0", "above 0"),
        ] {
            let error = args.set(name, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
