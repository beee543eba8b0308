//! What a search tries: ways to train that differ from the recipe as it stands in a few arguments.

use super::settings::Settings;
use crate::data::rng::{Draw, Purpose};
use crate::models::Task;
use crate::train::recipe::values::Strategy;
use crate::train::recipe::{Recipe, TrainArgs};
use crate::train::start::choose_optimiser;

/// How strongly training images are varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Less than the recipe has it.
    Light,
    /// As the recipe has it.
    Usual,
    /// More than the recipe has it.
    Strong,
}

impl Strength {
    /// All, in the order of their words.
    pub const ALL: [Strength; 3] = [Strength::Usual, Strength::Light, Strength::Strong];

    /// The word that a person writes for it.
    pub fn word(self) -> &'static str {
        match self {
            Strength::Light => "light",
            Strength::Usual => "usual",
            Strength::Strong => "strong",
        }
    }

    /// The train arguments that it stands for.
    pub fn arguments(self, task: Task) -> &'static [(&'static str, &'static str)] {
        match (self, task) {
            (Strength::Usual, _) => &[],
            (Strength::Light, Task::Detect) => &[
                ("mosaic", "0"),
                ("scale", "0.25"),
                ("translate", "0.05"),
                ("hsv_s", "0.35"),
                ("hsv_v", "0.2"),
            ],
            (Strength::Strong, Task::Detect) => {
                &[("mixup", "0.15"), ("scale", "0.7"), ("translate", "0.2"), ("degrees", "5")]
            }
            (Strength::Light, Task::Classify) => &[
                ("auto_augment", "none"),
                ("erasing", "0"),
                ("scale", "0.25"),
                ("hsv_s", "0.2"),
                ("hsv_v", "0.2"),
            ],
            (Strength::Strong, Task::Classify) => &[("erasing", "0.6"), ("scale", "0.8")],
        }
    }
}

/// The train arguments that say how strongly images are varied: where one is given, the search leaves them alone.
pub const AUGMENTATION: [&str; 16] = [
    "hsv_h",
    "hsv_s",
    "hsv_v",
    "degrees",
    "translate",
    "scale",
    "shear",
    "perspective",
    "flipud",
    "fliplr",
    "mosaic",
    "mixup",
    "cutmix",
    "copy_paste",
    "auto_augment",
    "erasing",
];

/// One way to train.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// What learns, and how fast.
    pub strategy: Strategy,
    /// The learning rate, as a multiple of what the strategy would take.
    pub rate: f64,
    /// How strongly images are varied.
    pub strength: Strength,
    /// The network's input side in pixels.
    pub imgsz: u32,
}

impl Candidate {
    /// The recipe as it stands.
    pub fn default_of(base: &Recipe) -> Candidate {
        Candidate { strategy: base.strategy, rate: 1.0, strength: Strength::Usual, imgsz: base.imgsz }
    }

    /// In a few words, how it differs from `default`.
    pub fn name(&self, default: &Candidate) -> String {
        let mut words = Vec::new();
        if self.strategy != default.strategy {
            words.push(self.strategy.name());
        }
        if self.rate != 1.0 {
            words.push(format!("lr x{}", short(self.rate)));
        }
        if self.strength != Strength::Usual {
            words.push(format!("{} augmentation", self.strength.word()));
        }
        if self.imgsz != default.imgsz {
            words.push(format!("{} px", self.imgsz));
        }
        if words.is_empty() { "default".to_owned() } else { words.join(", ") }
    }

    /// The train arguments in which it differs from the recipe that `args` are, for runs of `epochs` epochs on `images`
    /// images of `classes` classes. `epochs` is among them.
    pub fn arguments(
        &self,
        base: &Recipe,
        (epochs, classes, images): (u32, usize, usize),
    ) -> Vec<(&'static str, String)> {
        let mut arguments = vec![("epochs", epochs.to_string())];
        let default = Candidate::default_of(base);
        if self.strategy != default.strategy {
            arguments.push(("strategy", self.strategy.name()));
        }
        if self.imgsz != default.imgsz {
            arguments.push(("imgsz", self.imgsz.to_string()));
        }
        if self.rate != 1.0 {
            let batch = base.batch.max(1);
            let recipe = Recipe { strategy: self.strategy, epochs, batch, ..base.clone() };
            let rate = choose_optimiser(&recipe, classes, images).lr0 * self.rate;
            arguments.push(("lr0", two_digits(rate)));
        }
        let strength = self.strength.arguments(base.task.of_model());
        arguments.extend(strength.iter().map(|(name, value)| (*name, (*value).to_owned())));
        arguments
    }

    /// The recipe of a run.
    ///
    /// # Errors
    /// An argument that does not go with the person's own.
    pub fn recipe(
        args: &TrainArgs,
        arguments: &[(&'static str, String)],
    ) -> Result<Recipe, crate::train::recipe::table::ArgumentError> {
        let mut args = args.clone();
        for (name, value) in arguments {
            args.set(name, value)?;
        }
        args.resolve()
    }
}

/// A rate as a person would write it: two digits that count.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().expect("a printed number is a number");
    rounded.to_string()
}

fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Everything that could be tried, in the order in which it is: the recipe as it stands, each strategy at its own
/// rate, then all combinations in an order that depends on the seed alone.
pub fn candidates(base: &Recipe, settings: &Settings, pretrained: bool) -> Vec<Candidate> {
    let default = Candidate::default_of(base);
    let strategies: Vec<Strategy> = match &settings.strategies {
        _ if base.is_given("strategy") => vec![base.strategy],
        // Random layers are nothing to keep.
        _ if !pretrained => vec![base.strategy],
        Some(listed) => listed.0.clone(),
        None => {
            vec![Strategy::Default, Strategy::Head, Strategy::Freeze, Strategy::Full, Strategy::Gradual]
        }
    };
    let rates: Vec<f64> = match &settings.rates {
        _ if base.is_given("lr0") => vec![1.0],
        Some(listed) => listed.0.clone(),
        None => vec![1.0, 1.0 / 3.0, 3.0],
    };
    let strengths: Vec<Strength> = match &settings.augment {
        _ if AUGMENTATION.iter().any(|name| base.is_given(name)) => vec![Strength::Usual],
        Some(listed) => listed.0.clone(),
        None => Strength::ALL.to_vec(),
    };
    let sizes: Vec<u32> = match &settings.sizes {
        Some(listed) => listed.0.clone(),
        None if base.is_given("imgsz") => vec![base.imgsz],
        None => {
            let of = |quarters: u32| ((base.imgsz * quarters / 4 + 16) / 32 * 32).max(32);
            vec![base.imgsz, of(3), of(5)]
        }
    };
    let mut found = vec![default];
    let add = |candidate: Candidate, found: &mut Vec<Candidate>| {
        // Kept features are those of images that are not varied.
        let idle = candidate.strategy == Strategy::Head && candidate.strength != Strength::Usual;
        if !idle && !found.contains(&candidate) {
            found.push(candidate);
        }
    };
    for &strategy in &strategies {
        add(Candidate { strategy, ..default }, &mut found);
    }
    let mut rest = Vec::new();
    for &strategy in &strategies {
        for &rate in &rates {
            for &strength in &strengths {
                for &imgsz in &sizes {
                    add(Candidate { strategy, rate, strength, imgsz }, &mut rest);
                }
            }
        }
    }
    let mut draw = Draw::new(base.seed, 0, 0, Purpose::Search);
    for i in (1..rest.len()).rev() {
        rest.swap(i, draw.below(i as u32 + 1) as usize);
    }
    rest.into_iter().for_each(|candidate| add(candidate, &mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(pairs: &[(&str, &str)]) -> TrainArgs {
        let mut args = TrainArgs::default();
        for (name, text) in [("model", "yolo11n"), ("data", "d.yaml")].iter().chain(pairs) {
            args.set_any(name, text).unwrap();
        }
        args
    }

    fn base(pairs: &[(&str, &str)]) -> Recipe {
        args(pairs).resolve().unwrap()
    }

    fn names(pairs: &[(&str, &str)], pretrained: bool) -> Vec<String> {
        let base = base(pairs);
        let default = Candidate::default_of(&base);
        let settings = super::super::settings::TuneArgs::default().fill();
        candidates(&base, &settings, pretrained).iter().map(|c| c.name(&default)).collect()
    }

    #[test]
    fn the_default_comes_first_then_every_strategy_then_combinations_without_repetition() {
        let all = names(&[], true);
        assert_eq!(all[..5], ["default", "head", "freeze", "full", "gradual"]);
        // 4 strategies x 3 rates x 3 strengths x 3 sizes, and the head with 3 rates x 3 sizes.
        assert_eq!(all.len(), 4 * 27 + 9);
        let mut unique = all.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), all.len());
        assert_eq!(all, names(&[], true));
        assert_ne!(all, names(&[("seed", "1")], true));
        assert!(all.contains(&"head, lr x0.33, 480 px".to_owned()), "{all:?}");
    }

    #[test]
    fn what_is_given_is_kept() {
        assert_eq!(names(&[("strategy", "freeze"), ("lr0", "0.001"), ("imgsz", "320")], true).len(), 3);
        let all = names(&[("mosaic", "0.5"), ("imgsz", "320"), ("lr0", "0.001")], true);
        assert_eq!(all, ["default", "head", "freeze", "full", "gradual"]);
        assert_eq!(names(&[("lr0", "0.001"), ("imgsz", "320"), ("mosaic", "1")], false), ["default"]);
    }

    #[test]
    fn arguments_say_exactly_what_differs() {
        let args = args(&[("batch", "8")]);
        let base = args.resolve().unwrap();
        let default = Candidate::default_of(&base);
        assert_eq!(default.arguments(&base, (20, 1, 100)), [("epochs", "20".to_owned())]);
        let other = Candidate { strategy: Strategy::Full, rate: 3.0, strength: Strength::Light, imgsz: 480 };
        let arguments = other.arguments(&base, (20, 1, 100));
        // One class: .002 * 5 / 5 = .002, a fifth for strategy=full, three times that.
        let lr0 = &arguments.iter().find(|(name, _)| *name == "lr0").unwrap().1;
        assert_eq!(lr0, "0.0012");
        let recipe = Candidate::recipe(&args, &arguments).unwrap();
        assert_eq!((recipe.epochs, recipe.imgsz, recipe.mosaic, recipe.batch), (20, 480, 0.0, 8));
        assert_eq!(recipe.strategy, Strategy::Full);
        assert!(recipe.is_given("lr0"));
    }
}
