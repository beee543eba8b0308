//! Groups of images that belong together: of one patient, field, cell or plot. A model that has seen one of them has
//! nearly seen the others, so figures mean something only where a whole group stands on one side of a split.

mod pattern;
mod table;

pub use pattern::Pattern;
pub(crate) use table::{GROUP, IMAGE};

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::audit::{Fault, FaultKind};
use super::dataset::{Dataset, Item, Split};
use super::index::DataError;

/// What tells an image's group.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupBy {
    /// Its name, by a pattern.
    Pattern(Pattern),
    /// A CSV file with the columns image and group.
    Table(PathBuf),
    /// A column of the data set's own CSV table.
    Column(String),
}

impl GroupBy {
    /// Reads what a person writes. The error says what is allowed, to follow "must be".
    pub fn parse(text: &str) -> Result<GroupBy, String> {
        let text = text.trim();
        if text.contains(['{', '}', '*']) {
            Pattern::parse(text).map(GroupBy::Pattern)
        } else if text.to_ascii_lowercase().ends_with(".csv") {
            Ok(GroupBy::Table(text.into()))
        } else if text.is_empty() {
            Err("a pattern such as {group}_*, a .csv file, or the name of a column".into())
        } else {
            Ok(GroupBy::Column(text.into()))
        }
    }

    /// As it would be written.
    pub fn text(&self) -> String {
        match self {
            GroupBy::Pattern(pattern) => pattern.text().into(),
            GroupBy::Table(path) => path.to_string_lossy().into_owned(),
            GroupBy::Column(name) => name.clone(),
        }
    }
}

/// The group of each image by its number, equal for images that belong together. An image without a group has a number of
/// its own. Whoever divides `items` further (into folds, say) keeps equal numbers on one side.
pub fn numbers(items: &[Item]) -> Vec<u32> {
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut next = 0;
    let mut fresh = || {
        next += 1;
        next - 1
    };
    items
        .iter()
        .map(|item| match item.group.as_deref() {
            Some(group) => *known.entry(group).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect()
}

/// Images that have no group and are named in the warning.
const NAMED: usize = 3;

/// Gives each of `images` its group by a pattern or a table. `source` and `root` are the data set's. A warning comes back
/// where some image has none.
///
/// # Errors
/// A column's name, which only a data set in a CSV table can have; a table that cannot be read; no image with a group.
pub(crate) fn assign<'a>(
    by: &GroupBy,
    images: impl Iterator<Item = (&'a Path, &'a mut Option<Arc<str>>)>,
    root: &Path,
    source: &Path,
) -> Result<Option<Fault>, DataError> {
    let of_table;
    let group_of: &dyn Fn(&Path) -> Option<String> = match by {
        GroupBy::Pattern(pattern) => &|image: &Path| pattern.group_of(image),
        GroupBy::Table(path) => {
            of_table = table::read(path, root)?;
            &|image: &Path| of_table.group_of(image)
        }
        GroupBy::Column(name) => {
            return Err(DataError::Option(format!(
                "group={name}: a column's name needs a data set that is a .csv table; give a pattern of the images' names \
                 such as group={{group}}_*, or a .csv file with the columns image and group"
            )));
        }
    };
    let mut shared: HashMap<String, Arc<str>> = HashMap::new();
    let (mut all, mut missing, mut named) = (0, 0, Vec::new());
    for (image, group) in images {
        all += 1;
        match group_of(image) {
            Some(name) => {
                *group = Some(Arc::clone(shared.entry(name).or_insert_with_key(|name| name.as_str().into())));
            }
            None => {
                missing += 1;
                if named.len() < NAMED {
                    named.push(image.display().to_string());
                }
            }
        }
    }
    if shared.is_empty() && all > 0 {
        let text = by.text();
        return Err(DataError::Option(format!(
            "group={text} tells no image's group; one image is {}",
            named[0]
        )));
    }
    Ok((missing > 0).then(|| without_group(missing, all, &named, source)))
}

/// The warning of images that belong to no group.
pub(crate) fn without_group(missing: usize, all: usize, named: &[String], source: &Path) -> Fault {
    let message = format!(
        "{missing} of {all} images have no group, and each counts as one of its own: {}{}",
        named.join(", "),
        if missing > named.len() { " …" } else { "" }
    );
    Fault::warning(source, None, FaultKind::NoGroup, message)
}

/// An image where it is looked for leaks.
pub(crate) struct Member<'a> {
    pub group: &'a str,
    pub split: Split,
    pub image: &'a Path,
    /// The file and line that list it, where one does.
    pub listed: Option<(&'a Path, usize)>,
}

/// One error for each group that stands in training and outside of it too: figures on it flatter the model, and a person
/// who names groups has said that this must not be. It is told of the group's first image outside of training.
pub(crate) fn leaks<'a>(members: impl Iterator<Item = Member<'a>>) -> Vec<Fault> {
    let mut groups: BTreeMap<&str, (usize, usize, Option<Member>)> = BTreeMap::new();
    for member in members {
        let (train, held, first) = groups.entry(member.group).or_default();
        if member.split == Split::Train {
            *train += 1;
        } else {
            *held += 1;
            first.get_or_insert(member);
        }
    }
    let both = groups.into_iter().filter(|(_, (train, ..))| *train > 0);
    both.filter_map(|(group, (train, held, first))| {
        let first = first?;
        let message = format!(
            "the group `{group}` has {train} image(s) in training and {held} in validation or test, this one among them: \
             give all of them one split, or let onsa divide them anew with resplit=true"
        );
        let (path, line) = first.listed.map_or((first.image, None), |(path, line)| (path, Some(line)));
        Some(Fault::error(path, line, FaultKind::GroupLeak, message).of_image(first.image))
    })
    .collect()
}

/// The groups that leak among `faults`, by name: what has to leave validation and test.
pub(crate) fn leaking(dataset: &Dataset, faults: &[Fault]) -> std::collections::HashSet<Arc<str>> {
    let told: std::collections::HashSet<&Path> = faults
        .iter()
        .filter(|fault| fault.kind == FaultKind::GroupLeak)
        .filter_map(|fault| fault.image.as_deref())
        .collect();
    let held = dataset.val.iter().chain(&dataset.test);
    held.filter(|item| told.contains(item.path.as_path())).filter_map(|item| item.group.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_a_column_a_csv_a_table_and_braces_a_pattern() {
        assert_eq!(GroupBy::parse("patient"), Ok(GroupBy::Column("patient".into())));
        assert_eq!(GroupBy::parse("who/groups.CSV"), Ok(GroupBy::Table("who/groups.CSV".into())));
        for text in ["{group}_*", "*/{group}/*"] {
            assert_eq!(GroupBy::parse(text).unwrap().text(), text);
        }
        for wrong in ["", "*_*", "{patient}_*", "{group}_{group}"] {
            assert!(GroupBy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_groups_have_equal_numbers_and_no_group_is_one_of_its_own() {
        let item = |group: Option<&str>| Item {
            path: "x".into(),
            label_path: None,
            width: 1,
            height: 1,
            labels: Vec::new(),
            group: group.map(Into::into),
        };
        let items = [item(Some("a")), item(None), item(Some("b")), item(Some("a")), item(None)];
        assert_eq!(numbers(&items), [0, 1, 2, 0, 3]);
    }
}
