//! Arguments as a table: name, type, default, allowed range and help stand once, and the command line, its help, the
//! configuration file and the resolved values all come from that one definition (see [`arguments!`](crate::arguments)).
use std::path::PathBuf;

/// One argument as the command line and the help need it.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// The name, as in `name=value`.
    pub name: &'static str,
    /// The help's section.
    pub heading: &'static str,
    /// One or more sentences.
    pub help: &'static str,
    /// What stands for the value in the help, such as `NUMBER`.
    pub value: &'static str,
    /// True where a bare `--name` means `name=true`.
    pub flag: bool,
    /// The default, as it would be written.
    pub default: fn() -> String,
}

/// A wrong argument: always the person's to correct, so always exit code 2.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ArgumentError {
    /// No such argument.
    #[error("there is no argument `{name}`")]
    Unknown {
        /// What was given.
        name: String,
        /// The nearest one that exists.
        nearest: Option<&'static str>,
    },
    /// The value has the wrong type or lies outside its range.
    #[error("{name}={value} is not allowed: {name} must be {expected}")]
    Value {
        /// The argument.
        name: String,
        /// What was given.
        value: String,
        /// What is allowed, to follow "must be".
        expected: String,
    },
    /// A required argument was not given.
    #[error("`{name}` is missing")]
    Missing {
        /// The argument.
        name: &'static str,
        /// How to give it.
        example: &'static str,
    },
    /// The reference knows the argument; this program does not act on this value.
    #[error("{name}={value} is not supported: {why}")]
    NotHonoured {
        /// The argument.
        name: String,
        /// What was given.
        value: String,
        /// What holds instead.
        why: String,
    },
    /// Two arguments contradict one another.
    #[error("{0}")]
    Contradiction(String),
}

impl ArgumentError {
    /// What to do about it, where the message does not already say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::Missing { example, .. } => Some(format!("give it as {example}")),
            Self::NotHonoured { name, .. } => Some(format!("leave `{name}` at its default")),
            _ => None,
        }
    }
}

/// A type that an argument can have.
pub trait Field: Sized {
    /// What stands for the value in the help.
    const VALUE: &'static str;
    /// True where a bare `--name` means `name=true`.
    const FLAG: bool = false;
    /// Reads a value as a person writes it. The error says what is allowed, to follow "must be".
    fn parse(text: &str) -> Result<Self, String>;
    /// Writes the value so that [`Field::parse`] reads the same one; also a valid YAML scalar or flow list.
    fn emit(&self) -> String;
}

/// True for the ways to write "no value".
pub(crate) fn is_none(text: &str) -> bool {
    matches!(text, "" | "None" | "none" | "null" | "~")
}

impl Field for bool {
    const VALUE: &'static str = "true|false";
    const FLAG: bool = true;
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "True" | "TRUE" | "1" | "yes" | "on" => Ok(true),
            "false" | "False" | "FALSE" | "0" | "no" | "off" => Ok(false),
            _ => Err("true or false".into()),
        }
    }
    fn emit(&self) -> String {
        self.to_string()
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Field for $ty {
            const VALUE: &'static str = "INTEGER";
            fn parse(text: &str) -> Result<Self, String> {
                text.trim().parse().map_err(|_| format!("a whole number from {} to {}", <$ty>::MIN, <$ty>::MAX))
            }
            fn emit(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
integer!(u32, i32, u64);

impl Field for f64 {
    const VALUE: &'static str = "NUMBER";
    fn parse(text: &str) -> Result<Self, String> {
        match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err("a finite number".into()),
        }
    }
    fn emit(&self) -> String {
        self.to_string()
    }
}

impl Field for String {
    const VALUE: &'static str = "TEXT";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn emit(&self) -> String {
        super::yaml::quote(self)
    }
}

impl Field for PathBuf {
    const VALUE: &'static str = "PATH";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(PathBuf::from(text))
    }
    fn emit(&self) -> String {
        super::yaml::quote(&self.to_string_lossy())
    }
}

impl<T: Field> Field for Option<T> {
    const VALUE: &'static str = T::VALUE;
    const FLAG: bool = T::FLAG;
    fn parse(text: &str) -> Result<Self, String> {
        if is_none(text.trim()) { Ok(None) } else { T::parse(text).map(Some) }
    }
    fn emit(&self) -> String {
        self.as_ref().map_or_else(|| "null".into(), T::emit)
    }
}

impl Field for Vec<u32> {
    const VALUE: &'static str = "LIST";
    fn parse(text: &str) -> Result<Self, String> {
        items(text)
            .map(|item| {
                item.parse().map_err(|_| "a whole number or a list of them, such as 0,2,5".to_string())
            })
            .collect()
    }
    fn emit(&self) -> String {
        let items: Vec<String> = self.iter().map(u32::to_string).collect();
        format!("[{}]", items.join(", "))
    }
}

/// The items of `a,b`, `[a, b]` or `[a]`; quotes around an item are dropped.
pub(crate) fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    text.split(',').map(|item| item.trim().trim_matches(['"', '\''])).filter(|item| !item.is_empty())
}

/// What a range check says: `Err` is what is allowed, to follow "must be".
pub type Check = Result<(), &'static str>;

/// No restriction.
pub fn any<T>(_: &T) -> Check {
    Ok(())
}

/// A fraction or a probability.
pub fn unit(value: &f64) -> Check {
    if (0.0..=1.0).contains(value) { Ok(()) } else { Err("from 0 to 1") }
}

/// A fraction, or none.
pub fn unit_or_none(value: &Option<f64>) -> Check {
    value.as_ref().map_or(Ok(()), unit)
}

/// A fraction that is not 0.
pub fn positive_unit(value: &f64) -> Check {
    if *value > 0.0 && *value <= 1.0 { Ok(()) } else { Err("above 0 and at most 1") }
}

/// A fraction that is neither 0 nor 1.
pub fn share(value: &f64) -> Check {
    if *value > 0.0 && *value < 1.0 { Ok(()) } else { Err("above 0 and below 1") }
}

/// A fraction below 1, as a momentum must be.
pub fn below_one(value: &f64) -> Check {
    if (0.0..1.0).contains(value) { Ok(()) } else { Err("at least 0 and below 1") }
}

/// 0 or more.
pub fn not_negative(value: &f64) -> Check {
    if *value >= 0.0 { Ok(()) } else { Err("0 or more") }
}

/// More than 0.
pub fn positive(value: &f64) -> Check {
    if *value > 0.0 { Ok(()) } else { Err("above 0") }
}

/// More than 0, or none.
pub fn positive_or_none(value: &Option<f64>) -> Check {
    if value.is_none_or(|v| v > 0.0) { Ok(()) } else { Err("above 0") }
}

/// 1 or more.
pub fn at_least_one(value: &u32) -> Check {
    if *value >= 1 { Ok(()) } else { Err("1 or more") }
}

/// 1 or more, or none.
pub fn at_least_one_or_none(value: &Option<u32>) -> Check {
    if value.is_none_or(|v| v >= 1) { Ok(()) } else { Err("1 or more") }
}

/// The side of the network's input: the coarsest grid has a stride of 32 pixels.
pub fn image_size(value: &u32) -> Check {
    if value.is_multiple_of(32) && (32..=8192).contains(value) {
        Ok(())
    } else {
        Err("a multiple of 32 from 32 to 8192")
    }
}

/// As [`image_size`], or none.
pub fn image_size_or_none(value: &Option<u32>) -> Check {
    value.as_ref().map_or(Ok(()), image_size)
}

/// Channels of a picture, or none.
pub fn channels_or_none(value: &Option<u32>) -> Check {
    if value.is_none_or(|v| (1..=1024).contains(&v)) { Ok(()) } else { Err("from 1 to 1024") }
}

/// Degrees either way.
pub fn half_turn(value: &f64) -> Check {
    if (0.0..=180.0).contains(value) { Ok(()) } else { Err("from 0 to 180 degrees") }
}

/// Degrees of shear: at 90 the image would be a line.
pub fn shear_angle(value: &f64) -> Check {
    if (0.0..90.0).contains(value) { Ok(()) } else { Err("at least 0 and below 90 degrees") }
}

/// The reference's range for the perspective terms, which act per pixel.
pub fn perspective_term(value: &f64) -> Check {
    if (0.0..=0.001).contains(value) { Ok(()) } else { Err("from 0 to 0.001") }
}

/// Defines a verb's arguments once: `ARGS` with what a person gave (`Option` fields) and `RESOLVED` with every value.
///
/// `ARGS` gets `TABLE`, `set(name, text)` and `fill()`; `RESOLVED` gets `entries()` and the set `given`.
#[macro_export]
macro_rules! arguments {
    ($(#[$args_meta:meta])* $args:ident,
     $(#[$resolved_meta:meta])* $resolved:ident
     { $( $heading:literal { $( $(#[doc = $doc:literal])+ $name:ident : $ty:ty = $default:expr, $check:path; )+ } )+ }
    ) => {
        $(#[$args_meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $args { $($( $(#[doc = $doc])+ pub $name: Option<$ty>, )+)+ }

        $(#[$resolved_meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $resolved {
            $($( $(#[doc = $doc])+ pub $name: $ty, )+)+
            /// The names of the arguments that the person gave; the others stand at their defaults.
            pub given: std::collections::BTreeSet<&'static str>,
        }

        impl $args {
            /// Every argument, in the help's order.
            pub const TABLE: &'static [$crate::train::recipe::table::Argument] = &[$($(
                $crate::train::recipe::table::Argument {
                    name: $crate::train::recipe::table::plain(stringify!($name)),
                    heading: $heading,
                    help: concat!($($doc),+),
                    value: <$ty as $crate::train::recipe::table::Field>::VALUE,
                    flag: <$ty as $crate::train::recipe::table::Field>::FLAG,
                    default: || { let value: $ty = $default; $crate::train::recipe::table::Field::emit(&value) },
                },
            )+)+];

            /// Sets one argument from its text.
            ///
            /// # Errors
            /// An unknown name (with the nearest known one), a value of the wrong type or outside its range.
            pub fn set(
                &mut self, name: &str, text: &str,
            ) -> Result<(), $crate::train::recipe::table::ArgumentError> {
                use $crate::train::recipe::table::{ArgumentError, Field};
                match $crate::train::recipe::table::raw(name) {
                    $($( stringify!($name) => {
                        let wrong = |expected: String| ArgumentError::Value {
                            name: name.to_owned(), value: text.to_owned(), expected,
                        };
                        let value = <$ty as Field>::parse(text).map_err(wrong)?;
                        $check(&value).map_err(|expected| wrong(expected.to_owned()))?;
                        self.$name = Some(value);
                    } )+)+
                    _ => return Err($crate::train::recipe::table::unknown(name, Self::TABLE, &[])),
                }
                Ok(())
            }

            /// These arguments, and where one was not given, that of `base`.
            pub fn over(self, base: Self) -> Self {
                Self { $($( $name: self.$name.or(base.$name), )+)+ }
            }

            /// Forgets all but the named arguments.
            pub fn only(self, names: &std::collections::BTreeSet<&'static str>) -> Self {
                Self { $($(
                    $name: self.$name.filter(|_| names.contains($crate::train::recipe::table::plain(stringify!($name)))),
                )+)+ }
            }

            /// Forgets the arguments that say what the default says.
            pub fn without_defaults(self) -> Self {
                Self { $($( $name: self.$name.filter(|value| { let default: $ty = $default; *value != default }), )+)+ }
            }

            /// Every value: what was given, and the defaults for the rest.
            pub fn fill(&self) -> $resolved {
                let mut given = std::collections::BTreeSet::new();
                $($( if self.$name.is_some() { given.insert($crate::train::recipe::table::plain(stringify!($name))); } )+)+
                $resolved { $($( $name: self.$name.clone().unwrap_or_else(|| $default), )+)+ given }
            }
        }

        impl $resolved {
            /// Every argument with its value as it would be written, in the table's order.
            pub fn entries(&self) -> Vec<(&'static str, String)> {
                vec![$($( ($crate::train::recipe::table::plain(stringify!($name)), $crate::train::recipe::table::Field::emit(&self.$name)), )+)+]
            }
        }
    };
}

/// `box` is a word of Rust; its field is written `r#box`.
pub const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', ..] => name.split_at(2).1,
        _ => name,
    }
}

/// The inverse of [`plain`].
pub fn raw(name: &str) -> &str {
    if name == "box" { "r#box" } else { name }
}

/// The error for a name that neither `table` nor `others` has.
pub fn unknown(name: &str, table: &'static [Argument], others: &[&'static str]) -> ArgumentError {
    let known = table.iter().map(|argument| argument.name).chain(others.iter().copied());
    ArgumentError::Unknown { name: name.to_owned(), nearest: nearest(name, known) }
}

/// The most similar known name, if one is similar enough to be a likely slip of the hand.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_argument_and_noise_finds_none() {
        let known = || ["epochs", "imgsz", "patience"].into_iter();
        assert_eq!(nearest("epoch", known()), Some("epochs"));
        assert_eq!(nearest("imgsize", known()), Some("imgsz"));
        assert_eq!(nearest("xyzzy", known()), None);
    }

    #[test]
    fn lists_are_read_with_and_without_brackets() {
        assert_eq!(Vec::<u32>::parse("[0, 2,5]"), Ok(vec![0, 2, 5]));
        assert_eq!(Vec::<u32>::parse("3"), Ok(vec![3]));
        assert!(Vec::<u32>::parse("a").is_err());
    }

    #[test]
    fn numbers_that_are_no_numbers_are_refused() {
        for text in ["nan", "inf", "ten", ""] {
            assert!(f64::parse(text).is_err(), "{text}");
        }
        assert_eq!(f64::parse("1e-3"), Ok(0.001));
    }
}
