//! Argument types that are more than a number, a word or a path.
use super::table::{Field, is_none, items};
use crate::data::audit::AuditTask;
use crate::data::groups::GroupBy;
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
        /// In the GPU's memory, where they fit there; else as without it.
        Gpu = "gpu",
        /// In memory as far as it goes, and all of them decoded in one file.
        Disk = "disk",
    }
}

words! {
    /// What a GPU computes in.
    Amp {
        /// bfloat16, with sums, statistics and parameters in float32.
        Mixed = "true" | "yes" | "on" | "bf16",
        /// float32, the factors of convolutions' products rounded to TF32.
        Tf32 = "tf32",
        /// float32.
        Off = "false" | "no" | "off",
    }
}

words! {
    /// What becomes of images of 16 bits.
    Bits {
        /// They keep them.
        Auto = "auto",
        /// They are cut to 8.
        Eight = "8",
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
        /// Tell one class of the whole image.
        Classify = "classify",
    }
}

impl Task {
    /// The task as models know it.
    pub fn of_model(self) -> crate::models::Task {
        match self {
            Task::Detect => crate::models::Task::Detect,
            Task::Classify => crate::models::Task::Classify,
        }
    }
}

words! {
    /// How a run fine-tunes; see [`crate::train::strategy`].
    Strategy {
        /// As the other arguments say.
        Default = "default",
        /// Only the layers that give the logits learn, on features that are computed once.
        Head = "head",
        /// The backbone, or what `freeze` names, stays as it is.
        Freeze = "freeze",
        /// Everything learns, slowly.
        Full = "full",
        /// The head learns first, then more and more from the top.
        Gradual = "gradual",
        /// Low-rank adapters beside the frozen layers learn, and the layers that give the logits.
        Lora = "lora",
        /// Chosen from the data, and explained.
        Auto = "auto",
    }
}

impl Strategy {
    /// The word for it.
    pub fn name(self) -> String {
        self.emit()
    }
}

words! {
    /// Whether the model's own classes stay beside the data's; see [`crate::train::added`].
    AddClasses {
        /// The head has the data's classes.
        Off = "false" | "no" | "off" | "0",
        /// A detector gets a branch for the new ones, a classifier is taught the old ones by the starting model.
        On = "true" | "yes" | "on" | "1",
        /// One head has both; the starting model teaches the old ones.
        Distil = "distil" | "distill",
        /// One head has both; nothing teaches the old ones.
        Plain = "plain",
    }
}

words! {
    /// Which colour and shape changes a classifier's training images go through.
    AutoAugment {
        /// Two random operations of fourteen.
        RandAugment = "randaugment",
        /// The colour jitter of hsv_h, hsv_s and hsv_v.
        Off = "none" | "false" | "null" | "None",
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

impl Field for AuditTask {
    const VALUE: &'static str = "auto|detect|classify";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text {
            "auto" => AuditTask::Auto,
            "detect" => AuditTask::Detect,
            "classify" => AuditTask::Classify,
            _ => return Err("one of auto, detect, classify".into()),
        })
    }
    fn emit(&self) -> String {
        match self {
            AuditTask::Auto => "auto",
            AuditTask::Detect => "detect",
            AuditTask::Classify => "classify",
        }
        .into()
    }
}

impl Field for GroupBy {
    const VALUE: &'static str = "PATTERN|FILE.csv|COLUMN";
    fn parse(text: &str) -> Result<Self, String> {
        GroupBy::parse(text)
    }
    fn emit(&self) -> String {
        super::yaml::quote(&self.text())
    }
}

/// Which modules keep their weights (and their BatchNorm its statistics).
#[derive(Clone, Debug, PartialEq)]
pub enum Freeze {
    /// None.
    Nothing,
    /// Modules 0 to n - 1.
    First(u32),
    /// Modules by index or by name, patterns of parameter names with `*`, or `backbone`.
    Modules(Vec<String>),
}

impl Freeze {
    /// The request as models take it.
    pub fn of_model(&self) -> crate::models::Freeze {
        match self {
            Self::Nothing => crate::models::Freeze::None,
            Self::First(count) => crate::models::Freeze::First(*count as usize),
            Self::Modules(parts) => crate::models::Freeze::Parts(parts.clone()),
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
        let plain = |m: &String| m.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '*'));
        if modules.iter().all(plain) {
            Ok(if modules.is_empty() { Self::Nothing } else { Self::Modules(modules) })
        } else {
            Err("a count of modules (10), `backbone`, or a list of module indices, names or patterns ([0, 23.cv2, *.bn.*])".into())
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
    fn freeze_refuses_what_names_no_module() {
        for text in ["-1", "back bone", "1;2"] {
            assert!(Freeze::parse(text).is_err(), "{text}");
        }
        assert_eq!(Freeze::parse("None"), Ok(Freeze::Nothing));
        assert_eq!(Freeze::parse("[]"), Ok(Freeze::Nothing));
        let listed = Freeze::Modules(vec!["1".into(), "23.cv2".into(), "*.bn.*".into()]);
        assert_eq!(Freeze::parse("[1, 23.cv2, *.bn.*]"), Ok(listed));
        assert_eq!(Freeze::parse("backbone"), Ok(Freeze::Modules(vec!["backbone".into()])));
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
