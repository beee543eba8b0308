//! The classes of a model with those of a data set behind.

use std::collections::HashMap;

use super::AddError;
use crate::data::dataset::Item;
use crate::models::transfer::{are_placeholders, normalised};

/// The classes of both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The model's own in their order, then the new ones in the data's.
    pub names: Vec<String>,
    /// Each class of the data: its number among `names`.
    pub numbers: Vec<u32>,
}

/// Puts the classes of `data` that the model does not have behind its own; classes are one where their names differ at most
/// in case and surrounding space.
///
/// # Errors
/// A model that does not name its classes, or two alike; nothing to add.
pub fn merge(model: &[String], data: &[String]) -> Result<Merged, AddError> {
    if are_placeholders(model) {
        return Err(AddError::Unnamed { classes: model.len() });
    }
    let mut names = model.to_vec();
    let mut places = HashMap::new();
    for (i, name) in model.iter().enumerate() {
        if places.insert(normalised(name), i as u32).is_some() {
            return Err(AddError::SameName { name: name.clone() });
        }
    }
    let numbers = numbered(data, &mut places, &mut names);
    if names.len() == model.len() {
        return Err(AddError::NothingNew { classes: data.to_vec() });
    }
    Ok(Merged { names, numbers })
}

fn numbered(data: &[String], places: &mut HashMap<String, u32>, names: &mut Vec<String>) -> Vec<u32> {
    let number = |name: &String| {
        *places.entry(normalised(name)).or_insert_with(|| {
            names.push(name.clone());
            names.len() as u32 - 1
        })
    };
    data.iter().map(number).collect()
}

impl Merged {
    /// Gives the labels of the data their numbers among all classes.
    pub fn renumber(&self, items: &mut [Item]) {
        for label in items.iter_mut().flat_map(|item| &mut item.labels) {
            // A number beyond the names is a fault that training refused before.
            if let Some(&number) = self.numbers.get(label.class as usize) {
                label.class = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Label;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    #[test]
    fn old_classes_keep_their_numbers_and_new_ones_come_behind() {
        let merged = merge(&names(&["person", "Car"]), &names(&["Tree", " car ", "bush", "PERSON"])).unwrap();
        assert_eq!(merged.names, names(&["person", "Car", "Tree", "bush"]));
        assert_eq!(merged.numbers, [2, 1, 3, 0]);
        let label = |class| Label { class, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
        let labels = vec![label(0), label(1), label(3)];
        let mut items =
            [Item { path: "a.jpg".into(), label_path: None, width: 10, height: 10, group: None, labels }];
        merged.renumber(&mut items);
        assert_eq!(items[0].labels.iter().map(|l| l.class).collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn what_cannot_be_matched_or_adds_nothing_is_refused() {
        let nothing = merge(&names(&["a", "b"]), &names(&["B"])).unwrap_err();
        assert!(matches!(&nothing, AddError::NothingNew { classes } if *classes == ["B"]), "{nothing}");
        let unnamed = merge(&names(&["0", "1"]), &names(&["tree"])).unwrap_err();
        assert!(matches!(unnamed, AddError::Unnamed { classes: 2 }));
        let twice = merge(&names(&["a", "A "]), &names(&["tree"])).unwrap_err();
        assert!(matches!(&twice, AddError::SameName { name } if name == "A "), "{twice}");
    }
}
