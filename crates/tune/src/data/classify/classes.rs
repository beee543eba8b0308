//! Faults of classes: without images, or known to one split only.

use super::{Entry, Form, Index};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;

/// A class that cannot be learnt is an error where it is validated on, and one whose figure is missing a warning.
pub(super) fn faults(index: &Index) -> Vec<Fault> {
    let classes = index.classes.len();
    let count = |keep: fn(Split) -> bool| {
        let mut counts = vec![0usize; classes];
        index.entries.iter().filter(|e| keep(e.split)).for_each(|e| counts[e.class as usize] += 1);
        counts
    };
    let (train, val) = (count(|s| s == Split::Train), count(|s| s == Split::Val));
    let held = count(|s| s != Split::Train);
    let mut faults = Vec::new();
    for (class, name) in index.classes.iter().enumerate() {
        let (train, val, held) = (train[class], val[class], held[class]);
        if train == 0 && held > 0 {
            let message = format!(
                "the class `{name}` has {held} image(s) in validation or test and none in training: add some, or remove it"
            );
            faults.push(at(
                index,
                class,
                Fault::error(&index.source, None, FaultKind::ClassMismatch, message),
            ));
        } else if train == 0 && index.form == Form::Idx {
            // Numbers without an image between others: IDX files have no list of classes.
            let message = format!("no image has the class {name}");
            faults.push(Fault::warning(&index.source, None, FaultKind::ClassWithoutImages, message));
        } else if train > 0 && val == 0 {
            let message = format!(
                "the class `{name}` has {train} image(s) in training and none in validation: its accuracy is not measured"
            );
            faults.push(at(
                index,
                class,
                Fault::warning(&index.source, None, FaultKind::ClassNotInVal, message),
            ));
        }
    }
    faults
}

/// The fault told at the first row of the class, where a table lists it.
fn at(index: &Index, class: usize, fault: Fault) -> Fault {
    let of_class = |e: &&Entry| e.class as usize == class;
    match index
        .entries
        .iter()
        .filter(of_class)
        .filter_map(|e| e.listed.as_ref())
        .min_by_key(|(_, line)| *line)
    {
        Some((table, line)) => Fault { path: table.to_path_buf(), line: Some(*line), ..fault },
        None => fault,
    }
}
