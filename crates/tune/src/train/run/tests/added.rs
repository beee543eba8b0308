//! Runs that add a class: a branch leaves everything as it was, in one head the old rows stand as they were, and neither
//! threads nor a stop change a byte.

use super::*;
use crate::models::open::{self, Opened};
use crate::train::added::AddError;
use crate::train::observer::Step;

/// Stops the run after so many steps.
struct StopAfter<'a> {
    steps: u32,
    stop: &'a AtomicBool,
}

impl Observer for StopAfter<'_> {
    fn step(&mut self, _: &Step<'_>) {
        self.steps -= 1;
        if self.steps == 0 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Eight training images of the old class `stone`, some with a label, and a folder of pictures without.
fn old_data(folder: &Path) -> [String; 2] {
    let drawn = drawn();
    std::fs::create_dir_all(folder.join("old")).unwrap();
    for part in ["images", "labels"] {
        std::fs::rename(drawn.path().join(part), folder.join("old").join(part)).unwrap();
    }
    std::fs::write(folder.join("old/data.yaml"), "train: images/train\nval: images/val\nnames: [Stone]\n")
        .unwrap();
    let pictures = folder.join("old/images/train").display().to_string();
    [folder.join("old/data.yaml").display().to_string(), pictures]
}

#[test]
fn the_head_starts_with_the_old_rows_to_the_last_bit_and_the_teacher_is_the_starting_model() {
    let data = drawn();
    let recipe = recipe(data.path(), "rows", &[("add_classes", "distil")]);
    let prepared = start::prepare(&recipe, &mut Silent).unwrap();
    assert_eq!(prepared.opened.names, ["leaf", "stone", "red kite", "block"]);
    assert_eq!(prepared.dataset.train[0].labels[0].class, 3);
    let added = prepared.added.as_ref().unwrap();
    assert_eq!((added.labelled.as_slice(), added.replay_from), (&[false, false, false, true][..], 8));
    let (new, old) = (&prepared.opened.params, &added.start.params);
    let mut rows = 0;
    for (to, from) in new.infos.iter().zip(&old.infos) {
        assert_eq!(to.name, from.name);
        let (to_values, from_values) = (&new.values[to.range()], &old.values[from.range()]);
        let to_torch = to.to_torch(to_values);
        let from_torch = from.to_torch(from_values);
        assert!(to_torch.iter().zip(&from_torch).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", to.name);
        if to.len != from.len {
            rows += 1;
            let fresh = &to_torch[from_torch.len()..];
            assert_eq!(fresh.len() * 3, from_torch.len(), "one class more");
            if to.name.ends_with("bias") {
                let level: usize = to.name.split('.').nth(3).unwrap().parse().unwrap();
                assert_eq!(fresh, [crate::models::init::class_bias(4, 8 << level)]);
            }
        }
    }
    assert_eq!(rows, 6, "weight and bias of the class logits on three levels, and nothing else");
    // The norms keep their statistics, whatever the images.
    let norms = new.infos.iter().filter(|info| info.name.ends_with("running_mean")).count();
    assert_eq!(prepared.trainable.frozen_norms.len(), norms);
}

#[test]
fn threads_and_a_stop_change_nothing_in_a_run_that_adds_a_class_and_replays_old_images() {
    let data = drawn();
    let [labelled, pictures] = old_data(data.path());
    for (kind, replay) in [("labelled", &labelled), ("pictures", &pictures)] {
        let more = |threads| {
            [
                ("add_classes", "distil"),
                ("replay", replay.as_str()),
                ("replay_ratio", "0.75"),
                ("old_data", labelled.as_str()),
                ("freeze", "2"),
                ("mixup", "0.5"),
                ("threads", threads),
            ]
        };
        let whole = run_to_end(&recipe(data.path(), &format!("{kind}-whole"), &more("1"))).unwrap();
        let kept = whole.kept.clone().unwrap();
        assert_eq!((kept.old_classes, kept.new[0].name.as_str(), kept.images), (3, "block", 2));
        assert_eq!(kept.old.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["stone"]);
        let csv = std::fs::read_to_string(whole.run_dir.join("results.csv")).unwrap();
        assert!(
            csv.starts_with("epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,train/distill_loss,")
        );
        let stop = AtomicBool::new(false);
        // 8 new and 6 replayed images are four batches an epoch.
        let mut observer = StopAfter { steps: 5, stop: &stop };
        let parts = recipe(data.path(), &format!("{kind}-parts"), &more("2"));
        let stopped = train(&parts, RunOptions::default(), &mut observer, &stop).unwrap();
        assert!(stopped.stopped && stopped.kept.is_none());
        let resumed = resume(&stopped.run_dir, &Changes::default(), &mut Silent, &NEVER).unwrap();
        for weights in ["weights/last.safetensors", "weights/best.safetensors", "added_classes.json"] {
            assert!(
                bytes(&resumed.run_dir, weights) == bytes(&whole.run_dir, weights),
                "{kind}: {weights} differs"
            );
        }
    }
}

#[test]
fn a_run_is_not_continued_with_another_starting_model() {
    let data = drawn();
    let model = data.path().join("model.pt");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt");
    std::fs::copy(fixtures.join("v8_4_190_mid.pt"), &model).unwrap();
    let named = model.display().to_string();
    let recipe = recipe(data.path(), "moved", &[("add_classes", "true"), ("model", &named)]);
    let stop = AtomicBool::new(false);
    let stopped =
        train(&recipe, RunOptions::default(), &mut StopAfter { steps: 3, stop: &stop }, &stop).unwrap();
    std::fs::copy(fixtures.join("v8_3_100_mid.pt"), &model).unwrap();
    let error = resume(&stopped.run_dir, &Changes::default(), &mut Silent, &NEVER).unwrap_err();
    assert!(matches!(error, TrainError::Add(AddError::StartChanged { .. })), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn the_written_model_has_all_names_and_the_first_of_them_are_the_old() {
    let data = drawn();
    let outcome = run_to_end(&recipe(data.path(), "names", &[("add_classes", "plain")])).unwrap();
    let best = open::find(&outcome.best.display().to_string(), &[], true).unwrap();
    let best = open::open(&best, None, [64, 64], true, 0).unwrap();
    assert_eq!(best.names, ["leaf", "stone", "red kite", "block"]);
    assert!(outcome.kept.unwrap().new[0].count > 0);
}

fn opened(path: &Path) -> Opened {
    open::open(&open::find(&path.display().to_string(), &[], true).unwrap(), None, [64, 64], true, 0).unwrap()
}

/// Bits of the head's maps for a fixed image, level by level.
fn maps(opened: &Opened) -> Vec<Vec<u32>> {
    let pool = engine::threads(Some(1)).unwrap();
    let mut network = Inference::new(&opened.model, opened.params.clone(), pool);
    let image: Vec<f32> = (0..64 * 64 * 3).map(|i| (i * 7919 % 256) as f32 / 255.0).collect();
    let maps = network.run([1, 64, 64], &image).unwrap();
    maps.values().iter().map(|map| map.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn a_branch_changes_nothing_of_the_model_and_neither_threads_nor_a_stop_change_the_branch() {
    let data = drawn();
    let [labelled, _] = old_data(data.path());
    let more = |threads| {
        [("add_classes", "true"), ("freeze", "3"), ("old_data", labelled.as_str()), ("threads", threads)]
    };
    let whole_recipe = recipe(data.path(), "whole", &more("1"));
    let whole = run_to_end(&whole_recipe).unwrap();
    let kept = whole.kept.clone().unwrap();
    assert_eq!((kept.before, kept.old_classes, kept.new[0].name.as_str()), (kept.after, 3, "block"));
    assert_eq!(whole.metrics.unwrap().detect().unwrap().per_class[0].name, "block");

    let (start, best) = (opened(Path::new(&whole_recipe.model)), opened(&whole.best));
    assert_eq!(best.names, ["leaf", "stone", "red kite", "block"]);
    for (i, info) in start.params.infos.iter().enumerate() {
        assert_eq!(info, &best.params.infos[i]);
        assert!(start.params.get(i) == best.params.get(i), "{} has changed", info.name);
    }
    let (before, after) = (maps(&start), maps(&best));
    assert_eq!((before.len(), after.len()), (3, 6));
    assert!(before[..] == after[..3], "what the model says of its own classes has changed");
    let shared =
        |name: &str| ["model.0.", "model.1.", "model.2."].iter().any(|layer| name.starts_with(layer));
    for info in &best.params.infos[start.params.infos.len()..] {
        assert!(info.name.strip_prefix("branch1.").is_some_and(|name| !shared(name)), "{}", info.name);
    }

    let stop = AtomicBool::new(false);
    let mut observer = StopAfter { steps: 3, stop: &stop };
    let parts = recipe(data.path(), "parts", &more("2"));
    let stopped = train(&parts, RunOptions::default(), &mut observer, &stop).unwrap();
    assert!(stopped.stopped && stopped.kept.is_none());
    let resumed = resume(&stopped.run_dir, &Changes::default(), &mut Silent, &NEVER).unwrap();
    for file in ["weights/last.safetensors", "weights/best.safetensors", "added_classes.json"] {
        assert!(bytes(&resumed.run_dir, file) == bytes(&whole.run_dir, file), "{file} differs");
    }
}

#[test]
fn a_second_branch_leaves_the_first_and_each_part_can_be_fine_tuned_alone() {
    let data = drawn();
    let first =
        run_to_end(&recipe(data.path(), "first", &[("add_classes", "true"), ("epochs", "1")])).unwrap();
    let yaml = data.path().join("data.yaml");
    std::fs::write(&yaml, "train: images/train\nval: images/val\nnames: [brick]\n").unwrap();
    let model = first.best.display().to_string();
    let more = [("add_classes", "true"), ("epochs", "1"), ("freeze", "0"), ("model", model.as_str())];
    let second = run_to_end(&recipe(data.path(), "second", &more)).unwrap();
    let (one, two) = (opened(&first.best), opened(&second.best));
    assert_eq!(two.names, ["leaf", "stone", "red kite", "block", "brick"]);
    assert_eq!(two.model.architecture.branches.iter().map(|b| b.from).collect::<Vec<_>>(), [2, 0]);
    assert!(maps(&one)[..] == maps(&two)[..6], "an older branch has changed");

    // For the first branch's class that branch is what is fine-tuned, with its row.
    let names = vec!["Block".to_owned()];
    let source = open::find(&second.best.display().to_string(), &[], true).unwrap();
    let part = open::open(&source, Some(&names), [64, 64], true, 0).unwrap();
    assert_eq!((part.transfer.kept.len(), part.model.levels.len()), (1, 3));
    assert!(maps(&part)[..] == maps(&two)[3..6]);
    // One head cannot take over what stands in branches.
    let more = [("add_classes", "distil"), ("model", model.as_str())];
    let error = run_to_end(&recipe(data.path(), "head", &more)).unwrap_err();
    assert!(matches!(error, TrainError::Add(AddError::HasBranches)), "{error}");
}
