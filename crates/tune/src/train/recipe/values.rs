//! Argument types that are more than a number, a word or a path.
use super::table::{Field, is_none, items};
use std::path::PathBuf;

/// Defines an argument whose value is one of a few words.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal $(| $also:literal)*, )+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl Field for $name {
            const VALUE: &'static str = words!(@join $($word)+);
            fn parse(text: &str) -> Result<Self, String> {
                $( if [$word $(, $also)*].iter().any(|word| word.eq_ignore_ascii_case(text)) { return Ok(Self::$variant); } )+
                Err(format!("one of {}", [$($word),+].join(", ")))
            }
            fn emit(&self) -> String {
                match self { $( Self::$variant => $word.into(), )+ }
            }
        }
    };
    (@join $first:literal $($rest:literal)*) => { concat!($first $(, "|", $rest)*) };
}

words! {
    /// Which rule updates the weights.
    Optimizer {
        /// Chosen from the number of iterations: MuSGD above 10,000, else AdamW.
        Auto = "auto",
        /// Stochastic gradient descent with Nesterov momentum.
        Sgd = "SGD",
        /// Adam with decoupled weight decay.
        AdamW = "AdamW",
        /// Muon plus SGD for matrices and convolutions, SGD for the rest.
        MuSgd = "MuSGD",
    }
}

words! {
    /// Where decoded images stay between epochs.
    Cache {
        /// Nowhere: every epoch decodes them again.
        Off = "false" | "no" | "off",
        /// In memory.
        Ram = "ram" | "true",
        /// In memory as far as it goes, and all of them decoded in one file.
        Disk = "disk",
    }
}

words! {
    /// What happens to items of the data set that have errors.
    Faulty {
        /// Training does not start.
        Refuse = "refuse",
        /// They are left out, and the log says how many and which.
        LeaveOut = "leave_out",
    }
}

words! {
    /// What the network does.
    Task {
        /// Find objects and their boxes.
        Detect = "detect",
    }
}

/// When a run is saved within an epoch; at every epoch's end it is saved anyway.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SaveEvery {
    /// So that saving costs less than 1 % of the time, and not more often than every 30 s.
    Auto,
    /// At the epochs' ends only.
    Epoch,
    /// After so many steps.
    Steps(u32),
    /// After so many seconds.
    Seconds(f64),
}

impl Field for SaveEvery {
    const VALUE: &'static str = "auto|epoch|STEPS|SECONDSs";
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let seconds = text.strip_suffix('s').and_then(|number| number.trim().parse::<f64>().ok());
        match (text, text.parse::<u32>(), seconds) {
            ("auto", ..) => Ok(Self::Auto),
            ("epoch", ..) => Ok(Self::Epoch),
            (_, Ok(steps), _) if steps > 0 => Ok(Self::Steps(steps)),
            (.., Some(seconds)) if seconds.is_finite() && seconds > 0.0 => Ok(Self::Seconds(seconds)),
            _ => Err("auto, epoch, a number of steps (100) or of seconds (60s)".into()),
        }
    }
    fn emit(&self) -> String {
        match self {
            Self::Auto => "auto".into(),
            Self::Epoch => "epoch".into(),
            Self::Steps(steps) => steps.to_string(),
            Self::Seconds(seconds) => format!("{seconds}s"),
        }
    }
}

/// Where training starts from.
#[derive(Clone, Debug, PartialEq)]
pub enum Pretrained {
    /// The weights of `model`.
    Yes,
    /// Random weights: from scratch.
    No,
    /// The weights of this file, in the architecture of `model`.
    From(PathBuf),
}

impl Field for Pretrained {
    const VALUE: &'static str = "true|false|FILE";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match bool::parse(text) {
            Ok(true) => Self::Yes,
            Ok(false) => Self::No,
            Err(_) if is_none(text) => Self::No,
            Err(_) => Self::From(text.into()),
        })
    }
    fn emit(&self) -> String {
        match self {
            Self::Yes => "true".into(),
            Self::No => "false".into(),
            Self::From(path) => path.emit(),
        }
    }
}

/// Which modules keep their weights (and their BatchNorm its statistics).
#[derive(Clone, Debug, PartialEq)]
pub enum Freeze {
    /// None.
    Nothing,
    /// Modules 0 to n - 1.
    First(u32),
    /// Modules by index or by name: those whose parameters' names contain `model.{item}.`.
    Modules(Vec<String>),
}

impl Freeze {
    /// True if the parameter or buffer `name` (`model.3.conv.weight`) belongs to a frozen module.
    pub fn covers(&self, name: &str) -> bool {
        match self {
            Self::Nothing => false,
            Self::First(count) => name
                .strip_prefix("model.")
                .and_then(|rest| rest.split('.').next())
                .and_then(|index| index.parse::<u32>().ok())
                .is_some_and(|index| index < *count),
            Self::Modules(modules) => modules.iter().any(|module| name.contains(&format!("model.{module}."))),
        }
    }
}

impl Field for Freeze {
    const VALUE: &'static str = "COUNT|LIST";
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if is_none(text) {
            return Ok(Self::Nothing);
        }
        if let Ok(count) = text.parse::<u32>() {
            return Ok(if count == 0 { Self::Nothing } else { Self::First(count) });
        }
        let modules: Vec<String> = items(text).map(str::to_owned).collect();
        let plain = |m: &String| m.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
        let starts_with_a_module = |m: &String| m.starts_with(|c: char| c.is_ascii_digit());
        if modules.iter().all(|m| plain(m) && starts_with_a_module(m)) {
            Ok(if modules.is_empty() { Self::Nothing } else { Self::Modules(modules) })
        } else {
            Err("a count of modules (10) or a list of module indices or names ([0, 1, 23.cv2])".into())
        }
    }
    fn emit(&self) -> String {
        match self {
            Self::Nothing => "null".into(),
            Self::First(count) => count.to_string(),
            Self::Modules(modules) => {
                let quoted: Vec<String> = modules.iter().map(|m| format!("\"{m}\"")).collect();
                format!("[{}]", quoted.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freeze_counts_modules_and_matches_whole_names() {
        let first = Freeze::parse("10").unwrap();
        assert!(first.covers("model.9.cv1.conv.weight"));
        assert!(!first.covers("model.10.attn.qkv.conv.weight"));
        let listed = Freeze::parse("[1, 23.cv2]").unwrap();
        assert!(listed.covers("model.1.conv.weight"));
        assert!(!listed.covers("model.10.conv.weight"));
        assert!(listed.covers("model.23.cv2.0.0.conv.weight"));
        assert!(!listed.covers("model.23.cv3.0.0.conv.weight"));
    }

    #[test]
    fn freeze_refuses_what_names_no_module() {
        for text in ["-1", "backbone", "1;2"] {
            assert!(Freeze::parse(text).is_err(), "{text}");
        }
        assert_eq!(Freeze::parse("None"), Ok(Freeze::Nothing));
        assert_eq!(Freeze::parse("[]"), Ok(Freeze::Nothing));
    }

    #[test]
    fn saves_are_counted_in_steps_or_seconds() {
        for (text, every) in [
            ("auto", SaveEvery::Auto),
            ("epoch", SaveEvery::Epoch),
            ("25", SaveEvery::Steps(25)),
            ("0.5s", SaveEvery::Seconds(0.5)),
        ] {
            assert_eq!(SaveEvery::parse(text), Ok(every));
            assert_eq!(every.emit(), text);
        }
        for text in ["0", "-1", "0s", "nans", "s", "often", ""] {
            assert!(SaveEvery::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn words_are_read_without_regard_to_case_and_written_as_the_reference_does() {
        assert_eq!(Optimizer::parse("adamw"), Ok(Optimizer::AdamW));
        assert_eq!(Optimizer::AdamW.emit(), "AdamW");
        assert_eq!(Cache::parse("True"), Ok(Cache::Ram));
        assert_eq!(Optimizer::parse("Lion"), Err("one of auto, SGD, AdamW, MuSGD".into()));
    }
}
