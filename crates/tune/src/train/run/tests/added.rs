//! Runs that add a class: the old rows stand as they were, and neither threads nor a stop change a byte.

use super::*;
use crate::models::open;
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
    let recipe = recipe(data.path(), "rows", &[("add_classes", "true")]);
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
                ("add_classes", "true"),
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
