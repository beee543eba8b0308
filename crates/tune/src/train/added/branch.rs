//! New classes of a detector in a branch of their own: the starting model stays as it is, to the last bit.

use onsa_compute::Params;

use super::super::recipe::Recipe;
use super::super::strategy::shared_layers;
use crate::data::dataset::Item;
use crate::models::branch::share;
use crate::models::open::Opened;
use crate::models::{Model, ModelError};

/// The model that comes out: the starting model with the network that is trained as its last branch.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Layers that both share.
    pub shared: usize,
    /// The network.
    pub model: Model,
    /// All class names.
    pub names: Vec<String>,
}

impl Joined {
    /// Of the starting model and a network for the classes behind its own.
    ///
    /// # Errors
    /// More layers to share than there are.
    pub fn new(recipe: &Recipe, start: &Opened, names: &[String]) -> Result<Joined, ModelError> {
        let architecture = &start.model.architecture;
        let shared = shared_layers(recipe, architecture);
        let trained = architecture.with_classes(names.len() - start.names.len());
        let side = recipe.imgsz as usize;
        let model = Model::build(&architecture.with_branch(shared, &trained), [1, side, side])?;
        Ok(Joined { shared, model, names: names.to_vec() })
    }

    /// Its values, from those of the starting model and of the trained network.
    pub fn params(&self, start: &Params, trained: &Params) -> Params {
        self.model.join(start, trained)
    }

    /// Gives the network that will be trained the shared layers as the starting model has them. Norms that an export folded
    /// away are restored for training; what is shared stays folded, for it must not change by a rounding.
    pub fn share(&self, start: &Params, trained: &mut Params) {
        share(self.shared, start, trained);
    }

    /// One sentence for the report.
    pub fn describe(&self, start: &Opened) -> String {
        format!(
            "the new classes get a branch of their own, which shares the first {} layers of the model (freeze={}); the rest of it \
             stays as it is, and both together compute {:.2} times as much",
            self.shared,
            self.shared,
            self.model.gflops() / start.model.gflops()
        )
    }
}

/// Leaves the labels of the new classes alone, numbered from 0; `numbers` are those of the data's classes among all, of which
/// the first `old` are the model's own.
pub(super) fn only_new(items: &mut [Item], numbers: &[u32], old: usize) {
    for item in items {
        item.labels.retain_mut(|label| {
            let new = numbers.get(label.class as usize).and_then(|number| number.checked_sub(old as u32));
            label.class = new.unwrap_or(label.class);
            new.is_some()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Label;

    #[test]
    fn labels_of_old_classes_go_and_new_ones_count_from_0() {
        let label = |class| Label { class, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
        let labels = vec![label(0), label(1), label(2), label(1)];
        let mut items =
            [Item { path: "a.jpg".into(), label_path: None, width: 10, height: 10, group: None, labels }];
        // Of the data's three classes the first is the model's 5th of 80.
        only_new(&mut items, &[4, 81, 80], 80);
        assert_eq!(items[0].labels.iter().map(|l| l.class).collect::<Vec<_>>(), [1, 0, 1]);
    }
}
