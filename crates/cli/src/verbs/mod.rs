//! The verbs, one file each.
pub mod bench;
pub mod check;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod inspect;
pub mod lr_find;
pub mod predict;
pub mod resume;
pub mod serve;
pub mod studio;
pub mod train;
pub mod tune;
pub mod val;

use std::process::ExitCode;

use onsa_compute::cuda::Precision;
use onsa_tune::engine::{self, Place, Wanted};
use onsa_tune::models::Model;
use onsa_tune::train::recipe::table::{Argument, nearest};

use crate::arguments::Invocation;
use crate::failure::Failure;

/// One verb: what its help says and what runs.
pub struct Verb {
    /// As typed.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The argument without a name.
    pub positional: Option<Positional>,
    /// Its arguments, in tables that follow one another in the help.
    pub tables: &'static [&'static [Argument]],
    /// True for names outside the tables that the verb itself judges.
    pub also_known: fn(&str) -> bool,
    /// Command lines.
    pub examples: &'static [&'static str],
    /// Does the work.
    pub run: fn(&Invocation) -> Result<ExitCode, Failure>,
}

/// An argument without a name.
pub struct Positional {
    /// As the help calls it.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
}

impl Verb {
    /// Every argument, in the help's order.
    pub fn arguments(&self) -> impl Iterator<Item = &'static Argument> {
        self.tables.iter().flat_map(|table| table.iter())
    }
}

/// For a verb that knows its tables and nothing more.
pub fn nothing_more(_: &str) -> bool {
    false
}

/// Takes the device of `device=` into use; `half`: bfloat16 on a GPU.
///
/// # Errors
/// The words mean nothing, or the GPU that they name cannot be used.
pub fn place(device: Option<&str>, half: bool, threads: Option<u32>) -> Result<Place, Failure> {
    let wanted = Wanted::parse(device).map_err(|e| Failure::usage(e.to_string()))?;
    let pool = engine::threads(threads).map_err(|e| Failure::from_error(&e))?;
    let precision = if half { Precision::Bf16 } else { Precision::Float32 };
    Place::open(wanted, precision, pool).map_err(|e| {
        Failure::from_error(&e).hint("`onsa doctor` shows what was found; device=cpu works everywhere")
    })
}

/// As [`place`], for a model: what is not computed on a GPU yet, networks of other channels than three, takes the processor.
///
/// # Errors
/// As [`place`], and where a GPU is asked for such a network.
pub fn place_for(
    model: &Model,
    (device, half, threads): (Option<&str>, bool, Option<u32>),
) -> Result<Place, Failure> {
    let channels = model.architecture.image_channels;
    if channels == 3 {
        return place(device, half, threads);
    }
    match Wanted::parse(device).map_err(|e| Failure::usage(e.to_string()))? {
        Wanted::Gpu(_) => {
            Err(Failure::failed(format!("networks of {channels} channel(s) are not computed on a GPU yet"))
                .hint("device=cpu computes them"))
        }
        _ => place(Some("cpu"), half, threads),
    }
}

/// Every verb, in the help's order.
pub const VERBS: &[Verb] = &[
    train::VERB,
    resume::VERB,
    tune::VERB,
    lr_find::VERB,
    val::VERB,
    predict::VERB,
    export::VERB,
    serve::VERB,
    inspect::VERB,
    check::VERB,
    bench::VERB,
    demo::VERB,
    doctor::VERB,
    studio::VERB,
];

/// The verb of that name.
///
/// # Errors
/// There is none; the hint names the nearest.
pub fn find(name: &str) -> Result<&'static Verb, Failure> {
    if let Some(verb) = VERBS.iter().find(|verb| verb.name == name) {
        return Ok(verb);
    }
    let names = VERBS.iter().map(|verb| verb.name);
    let hint = match nearest(name, names.clone()) {
        Some(near) => format!("did you mean `onsa {near}`?"),
        None => format!("the verbs are {}", names.collect::<Vec<_>>().join(", ")),
    };
    Err(Failure::usage(format!("there is no verb `{name}`")).hint(hint))
}
