//! A pretrained head for other classes: which rows of it are kept.

use std::collections::HashMap;

use super::architecture::Architecture;

/// Which row of a pretrained head's last convolution each class takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassMap {
    /// A class: its row in the checkpoint, or None for a fresh row.
    pub rows: Vec<Option<usize>>,
    /// Number of classes in the checkpoint.
    pub source_classes: usize,
}

/// What became of the classes, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadTransfer {
    /// Name, row in the checkpoint, row in the new head.
    pub kept: Vec<(String, usize, usize)>,
    /// Names of the classes whose rows start afresh.
    pub fresh: Vec<String>,
}

impl ClassMap {
    /// Every class keeps its row.
    pub fn identity(classes: usize) -> ClassMap {
        ClassMap { rows: (0..classes).map(Some).collect(), source_classes: classes }
    }

    /// Matches classes by name, disregarding case and surrounding space; of equal names in the checkpoint the last
    /// counts. Where one side has no names (`source` None, or the placeholders "0", "1", …), nothing can be matched:
    /// equal numbers of classes then keep their order, unequal ones start afresh.
    pub fn by_name(source: Option<&[String]>, source_classes: usize, target: &[String]) -> ClassMap {
        let named = source.filter(|names| !are_placeholders(names));
        let rows = match named {
            Some(names) if !are_placeholders(target) => {
                let place: HashMap<String, usize> = names
                    .iter()
                    .take(source_classes)
                    .enumerate()
                    .map(|(i, name)| (normalised(name), i))
                    .collect();
                target.iter().map(|name| place.get(&normalised(name)).copied()).collect()
            }
            _ if source_classes == target.len() => (0..source_classes).map(Some).collect(),
            _ => vec![None; target.len()],
        };
        ClassMap { rows, source_classes }
    }

    /// Whether the head stays as it is.
    pub fn is_identity(&self) -> bool {
        *self == ClassMap::identity(self.source_classes)
    }

    /// The same for a reader: `names` are those of the new classes.
    pub fn summary(&self, names: &[String]) -> HeadTransfer {
        let mut transfer = HeadTransfer::default();
        for (new, (row, name)) in self.rows.iter().zip(names).enumerate() {
            match row {
                Some(old) => transfer.kept.push((name.clone(), *old, new)),
                None => transfer.fresh.push(name.clone()),
            }
        }
        transfer
    }
}

impl Architecture {
    /// This network with a head for other classes: the class branch keeps its hidden width, so that all but its last
    /// convolution can be kept. It has no branches.
    pub fn with_classes(&self, classes: usize) -> Architecture {
        Architecture { classes, class_width: Some(self.resolved_class_width()), ..self.part(0) }
    }
}

/// Each of `wanted`: its place among `names`, if it is there; disregarding case and surrounding space.
pub fn places(names: &[String], wanted: &[String]) -> Vec<Option<u32>> {
    let places: HashMap<String, u32> =
        names.iter().enumerate().map(|(i, name)| (normalised(name), i as u32)).collect();
    wanted.iter().map(|name| places.get(&normalised(name)).copied()).collect()
}

pub(crate) fn normalised(name: &str) -> String {
    name.trim().to_lowercase()
}

pub(crate) fn are_placeholders(names: &[String]) -> bool {
    names.iter().enumerate().all(|(i, name)| *name == i.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn classes_are_matched_by_name_whatever_the_case() {
        let source = names(&["person", "Traffic Light", "dog"]);
        let target = names(&[" DOG ", "tree", "traffic light"]);
        let map = ClassMap::by_name(Some(&source), 3, &target);
        assert_eq!(map.rows, [Some(2), None, Some(1)]);
        let summary = map.summary(&target);
        assert_eq!(summary.kept, [(" DOG ".to_owned(), 2, 0), ("traffic light".to_owned(), 1, 2)]);
        assert_eq!(summary.fresh, ["tree"]);
        assert!(!map.is_identity());
        assert!(ClassMap::by_name(Some(&source), 3, &source).is_identity());
    }

    #[test]
    fn places_are_found_by_name() {
        let model = names(&["person", "Car", "tree"]);
        assert_eq!(places(&model, &names(&["TREE", "house", " car"])), [Some(2), None, Some(1)]);
    }

    #[test]
    fn without_names_equal_counts_keep_their_order() {
        let target = names(&["a", "b"]);
        assert_eq!(ClassMap::by_name(None, 2, &target).rows, [Some(0), Some(1)]);
        assert_eq!(ClassMap::by_name(Some(&names(&["0", "1"])), 2, &target).rows, [Some(0), Some(1)]);
        assert_eq!(ClassMap::by_name(Some(&names(&["0", "1", "2"])), 3, &target).rows, [None, None]);
        assert_eq!(ClassMap::by_name(Some(&target), 2, &names(&["0", "1"])).rows, [Some(0), Some(1)]);
    }

    #[test]
    fn more_names_than_rows_take_no_row_that_is_not_there() {
        let source = names(&["a", "b", "c"]);
        assert_eq!(ClassMap::by_name(Some(&source), 2, &names(&["c", "a"])).rows, [None, Some(0)]);
    }
}
