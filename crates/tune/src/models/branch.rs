//! Branches: further classes of a detector with layers of their own.
//!
//! A branch shares the first layers of the network and has a copy of all layers after them, whose head gives the branch's
//! classes alone. Its boxes stand beside the network's own: what that says of its own classes is what it would say without the
//! branch, to the last bit. In files the branches' tensors are named as the network's, behind `branch1.`, `branch2.`, …; where a
//! branch leaves the network is read off its first tensor.

use onsa_compute::graph::{Op, Params};

use super::architecture::{Architecture, Model};
use super::error::ModelError;
use super::registry::Task;
use super::transfer::places;
use super::weights::{Names, TensorInfo, WeightSource};

/// Branches that a model may have.
const MOST: usize = 64;

/// Classes with layers of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Layers that it shares with the network: its own begin with this one.
    pub from: usize,
    /// Number of its classes; they stand behind those of the network and of the branches before it.
    pub classes: usize,
    /// Hidden channels of its head's class branch.
    pub class_width: usize,
}

/// What stands before the names of the `index`th branch's (from 0) tensors.
pub fn prefix(index: usize) -> String {
    format!("branch{}.", index + 1)
}

/// The layer that a parameter such as `model.4.cv1.conv.weight` belongs to.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("model.")?.split('.').next()?.parse().ok()
}

impl Architecture {
    /// Number of all classes, the branches' too.
    pub fn class_count(&self) -> usize {
        self.classes + self.branches.iter().map(|branch| branch.classes).sum::<usize>()
    }

    /// One part as a network of its own: 0 is the network without its branches, others are the branches in their order.
    pub fn part(&self, part: usize) -> Architecture {
        let plain = Architecture { branches: Vec::new(), ..self.clone() };
        match part.checked_sub(1).and_then(|index| self.branches.get(index)) {
            Some(branch) => {
                Architecture { classes: branch.classes, class_width: Some(branch.class_width), ..plain }
            }
            None => plain,
        }
    }

    /// The numbers of a part's classes among all.
    pub fn part_classes(&self, part: usize) -> std::ops::Range<usize> {
        let first = (0..part).map(|before| self.part(before).classes).sum();
        first..first + self.part(part).classes
    }

    /// The part that knows most of the classes `wanted`; of equal ones the first. `own` are the names of all classes.
    pub fn part_for(&self, own: Option<&[String]>, wanted: &[String]) -> usize {
        let known = |part: usize| {
            let names = own.and_then(|own| own.get(self.part_classes(part))).unwrap_or_default();
            places(names, wanted).iter().flatten().count()
        };
        // The last of several greatest ones is what max_by_key gives.
        (0..=self.branches.len()).rev().max_by_key(|&part| known(part)).unwrap_or(0)
    }

    /// This model with a further branch for `trained`, a network that shares the layers before `from` with it.
    pub fn with_branch(&self, from: usize, trained: &Architecture) -> Architecture {
        let branch = Branch { from, classes: trained.classes, class_width: trained.resolved_class_width() };
        let branches = self.branches.iter().cloned().chain([branch]).collect();
        Architecture { branches, ..self.clone() }
    }

    /// Takes the branches from the names and shapes of tensors.
    pub(super) fn read_branches(&mut self, names: &Names) {
        self.branches.clear();
        if self.task != Task::Detect {
            return;
        }
        let head = self.head_index();
        for index in 0..MOST {
            let prefix = prefix(index);
            let layers = names.by_name.keys().filter_map(|name| layer(name.strip_prefix(&prefix)?));
            let (Some(from), Some(&[classes, class_width, 1, 1])) =
                (layers.min(), names.shape(&format!("{prefix}model.{head}.cv3.0.2.weight")))
            else {
                return;
            };
            self.branches.push(Branch { from, classes, class_width });
        }
    }

    /// Says what is wrong with the branches, if anything is.
    pub(super) fn check_branches(&self) -> Result<(), ModelError> {
        let refuse = |reason: String| Err(ModelError::Architecture(reason));
        if self.task != Task::Detect && !self.branches.is_empty() {
            return refuse("only detectors have branches".into());
        }
        for branch in &self.branches {
            if branch.classes == 0 || branch.class_width == 0 {
                return refuse("a branch needs at least one class".into());
            }
            if branch.from > self.head_index() {
                return refuse(format!(
                    "a branch cannot share {} layers: {} has {}, of which the last is the head",
                    branch.from,
                    self.name(),
                    self.head_index() + 1
                ));
            }
        }
        Ok(())
    }
}

impl Model {
    /// Puts the architecture's branches beside the network.
    pub(super) fn branch_out(
        mut self,
        branches: &Architecture,
        size: [usize; 3],
    ) -> Result<Model, ModelError> {
        for (index, branch) in branches.branches.iter().enumerate() {
            let plain = Model::build(&branches.part(index + 1), size)?;
            let infos = plain.graph.params();
            let is_own = |op: &Op| {
                let id = match op {
                    Op::Conv2d { weight, .. } => weight,
                    Op::BatchNorm { scale, .. } | Op::ScaleChannels { scale } => scale,
                    _ => return false,
                };
                layer(&infos[id.index()].name).is_some_and(|layer| layer >= branch.from)
            };
            let shared = plain.graph.nodes().iter().position(|node| is_own(&node.op));
            let shared = shared.unwrap_or(plain.graph.nodes().len());
            let prefix = prefix(index);
            self.graph = self.graph.with_branch(&plain.graph, shared, &prefix);
            let classes = branches.part_classes(index + 1);
            self.levels.extend(plain.levels.into_iter().map(|level| super::Level {
                output: format!("{prefix}{}", level.output),
                classes: classes.clone(),
                ..level
            }));
        }
        self.architecture.branches.clone_from(&branches.branches);
        Ok(self)
    }

    /// Values of this model, whose last branch is `trained`, from those of the model without that branch and of the trained
    /// network. The layers that both share are `start`'s.
    pub fn join(&self, start: &Params, trained: &Params) -> Params {
        let mut joined = self.blank_params();
        let last = prefix(self.architecture.branches.len().saturating_sub(1));
        for i in 0..joined.infos.len() {
            let (name, range) = (joined.infos[i].name.clone(), joined.infos[i].range());
            let (from, name) = match name.strip_prefix(&last) {
                Some(own) => (trained, own),
                None => (start, name.as_str()),
            };
            let place = from.find(name).expect("a joined model is made of these two");
            joined.values[range].copy_from_slice(from.get(place));
        }
        joined
    }
}

/// Gives `to` the layers before `from` as `source` has them.
pub fn share(from: usize, source: &Params, to: &mut Params) {
    for info in to.infos.iter().filter(|info| layer(&info.name).is_some_and(|layer| layer < from)) {
        let place = source.find(&info.name).expect("both are of one architecture");
        to.values[info.range()].copy_from_slice(source.get(place));
    }
}

/// The tensors of one part of a model, under the names that they have in a network of its own.
pub struct PartOf<'a, S> {
    source: &'a S,
    /// Each tensor's place in the source.
    places: Vec<usize>,
    tensors: Vec<TensorInfo>,
}

impl<'a, S: WeightSource> PartOf<'a, S> {
    /// Of a model of that architecture.
    pub fn new(source: &'a S, architecture: &Architecture, part: usize) -> PartOf<'a, S> {
        let own = part.checked_sub(1).map(prefix);
        let from = part.checked_sub(1).map_or(usize::MAX, |index| architecture.branches[index].from);
        let (mut places, mut tensors) = (Vec::new(), Vec::new());
        for (place, tensor) in source.tensors().into_iter().enumerate() {
            let branch = (0..architecture.branches.len()).find(|&i| tensor.name.starts_with(&prefix(i)));
            let name = match (branch, &own) {
                (None, _) if layer(&tensor.name).is_none_or(|layer| layer < from) => tensor.name.as_str(),
                (Some(_), Some(own)) => match tensor.name.strip_prefix(own.as_str()) {
                    Some(name) => name,
                    None => continue,
                },
                _ => continue,
            };
            tensors.push(TensorInfo { name: name.to_owned(), shape: tensor.shape });
            places.push(place);
        }
        PartOf { source, places, tensors }
    }
}

impl<S: WeightSource> WeightSource for PartOf<'_, S> {
    fn tensors(&self) -> Vec<TensorInfo> {
        self.tensors.clone()
    }

    fn read(&self, index: usize) -> Result<Vec<f32>, String> {
        self.source.read(self.places[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{self, Inference};
    use crate::models::{Family, Scale, identify::from_tensors, init_fresh};

    fn maps(model: &Model, params: Params) -> Vec<Vec<f32>> {
        let mut network = Inference::new(model, params, engine::threads(Some(1)).unwrap());
        let image: Vec<f32> = (0..64 * 64 * 3).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
        network.run([1, 64, 64], &image).unwrap().values().iter().map(|map| map.to_vec()).collect()
    }

    #[test]
    fn wherever_a_branch_leaves_both_say_what_they_say_alone() {
        for family in Family::DETECTORS {
            let old = Architecture::published(family, Scale::N, 3);
            let start = Model::build(&old, [1, 64, 64]).unwrap();
            let values = init_fresh(&start, 1);
            let own = Model::build(&old.with_classes(1), [1, 64, 64]).unwrap();
            for from in [0, 2, 3, 5, 7, 9, 12, old.head_index()] {
                let mut trained = init_fresh(&own, 2);
                share(from, &values, &mut trained);
                let joined = Model::build(&old.with_branch(from, &own.architecture), [1, 64, 64]).unwrap();
                let params = joined.join(&values, &trained);
                let (alone, branch) = (maps(&start, values.clone()), maps(&own, trained));
                let both = maps(&joined, params.clone());
                assert!(both[..3] == alone[..] && both[3..] == branch[..], "{family:?} from {from}");
                assert_eq!(joined.architecture.class_count(), 4);
                assert_eq!(joined.levels[5].classes, 3..4);
                if from > 0 {
                    let apart = start.parameter_count() + own.parameter_count();
                    assert!(
                        joined.parameter_count() < apart && joined.gflops() < start.gflops() + own.gflops()
                    );
                }
                // The tensors say where the branch leaves; layers without parameters cannot be told apart.
                let tensors: Vec<TensorInfo> = params
                    .infos
                    .iter()
                    .map(|info| TensorInfo { name: info.name.clone(), shape: info.shape.clone() })
                    .collect();
                let found = from_tensors(&tensors).unwrap();
                let again = Model::build(&found, [1, 64, 64]).unwrap();
                assert_eq!(again.graph.params(), joined.graph.params(), "{family:?} from {from}");
            }
        }
    }

    #[test]
    fn branches_that_make_no_network_are_refused() {
        let old = Architecture::published(Family::Yolo11, Scale::N, 3);
        let deep =
            Architecture { branches: vec![Branch { from: 24, classes: 1, class_width: 80 }], ..old.clone() };
        let message = Model::build(&deep, [1, 64, 64]).unwrap_err().to_string();
        assert!(message.contains("cannot share 24 layers"), "{message}");
        let empty = Architecture { branches: vec![Branch { from: 2, classes: 0, class_width: 80 }], ..old };
        assert!(Model::build(&empty, [1, 64, 64]).is_err());
    }

    #[test]
    fn the_part_that_knows_most_of_the_classes_is_taken() {
        let old = Architecture::published(Family::Yolo11, Scale::N, 2);
        let both = old.with_branch(2, &old.with_classes(1));
        let names = ["person", "car", "tree"].map(String::from);
        let wanted = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(both.part_for(Some(&names), &wanted(&["Tree"])), 1);
        assert_eq!(both.part_for(Some(&names), &wanted(&["tree", "car"])), 0, "of equal ones the first");
        assert_eq!(both.part_for(Some(&names), &wanted(&["stone"])), 0);
        assert_eq!(both.part_for(None, &wanted(&["tree"])), 0);
        assert_eq!((both.part_classes(0), both.part_classes(1)), (0..2, 2..3));
    }
}
