use super::*;

fn args(pairs: &[(&str, &str)]) -> TrainArgs {
    let mut args = TrainArgs::default();
    for (name, text) in [("model", "yolo11n"), ("data", "trees/data.yaml")].iter().chain(pairs) {
        args.set_any(name, text).unwrap_or_else(|error| panic!("{name}={text}: {error}"));
    }
    args
}

#[test]
fn defaults_are_those_of_the_reference() {
    let recipe = args(&[]).resolve().unwrap();
    let expected = [
        ("epochs", "100"),
        ("patience", "100"),
        ("batch", "16"),
        ("imgsz", "640"),
        ("workers", "8"),
        ("optimizer", "auto"),
        ("seed", "0"),
        ("close_mosaic", "10"),
        ("nbs", "64"),
        ("lr0", "0.01"),
        ("lrf", "0.01"),
        ("momentum", "0.937"),
        ("weight_decay", "0.0005"),
        ("warmup_epochs", "3"),
        ("warmup_momentum", "0.8"),
        ("warmup_bias_lr", "0.1"),
        ("box", "7.5"),
        ("cls", "0.5"),
        ("dfl", "1.5"),
        ("hsv_h", "0.015"),
        ("hsv_s", "0.7"),
        ("hsv_v", "0.4"),
        ("translate", "0.1"),
        ("scale", "0.5"),
        ("fliplr", "0.5"),
        ("mosaic", "1"),
        ("freeze", "null"),
    ];
    let entries = recipe.entries();
    for (name, value) in expected {
        assert!(entries.contains(&(name, value.to_string())), "{name} should be {value}");
    }
    for name in ["degrees", "shear", "perspective", "flipud", "mixup", "cutmix", "copy_paste", "multi_scale"]
    {
        assert!(entries.contains(&(name, "0".to_string())), "{name} should be 0");
    }
}

#[test]
fn a_recipe_survives_its_own_file() {
    let given = [
        ("optimizer", "AdamW"),
        ("lr0", "1e-5"),
        ("freeze", "[0, 23.cv2]"),
        ("box", "5"),
        ("time", "0.5"),
        ("name", "a run: #1"),
        ("cache", "ram"),
        ("pretrained", "other weights.pt"),
        ("faulty", "leave_out"),
        ("save_every", "2.5s"),
        ("device", "cpu"),
        ("seed", "18446744073709551615"),
    ];
    let recipe = args(&given).resolve().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    std::fs::write(&path, recipe.to_yaml()).unwrap();
    assert_eq!(Recipe::from_file(&path).unwrap(), recipe);
    assert!(recipe.is_given("lr0") && !recipe.is_given("lrf"));
}

#[test]
fn a_run_that_is_taught_steps_at_every_batch_and_survives_its_own_file() {
    let given = [
        ("add_classes", "distil"),
        ("batch", "4"),
        ("replay", "old/"),
        ("replay_ratio", "0.25"),
        ("old_data", "o.yaml"),
    ];
    let recipe = args(&given).resolve().unwrap();
    assert_eq!(recipe.nbs, 4);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    std::fs::write(&path, recipe.to_yaml()).unwrap();
    assert_eq!(Recipe::from_file(&path).unwrap(), recipe);
    assert_eq!(args(&[("add_classes", "distil"), ("nbs", "64")]).resolve().unwrap().nbs, 64);
    let classify = [("add_classes", "true"), ("batch", "4"), ("task", "classify")];
    assert_eq!(args(&classify).resolve().unwrap().nbs, 4);
    // A branch is plain fine-tuning.
    assert_eq!(args(&[("add_classes", "true"), ("batch", "4")]).resolve().unwrap().nbs, 64);
    assert_eq!(args(&[("add_classes", "plain"), ("batch", "4")]).resolve().unwrap().nbs, 64);
}

#[test]
fn a_learning_rate_that_repeats_the_default_still_counts_as_given() {
    assert!(args(&[("lr0", "0.01")]).resolve().unwrap().is_given("lr0"));
}

#[test]
fn a_file_of_the_reference_is_taken_and_its_defaults_count_as_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    let text = "task: detect\nmode: train\nmodel: yolo11n.pt\ndata: d.yaml\nepochs: 30\nlr0: 0.01\nmask_ratio: 4\n\
                freeze:\n- 0\n- 1\ndevice: null\n";
    std::fs::write(&path, text).unwrap();
    let recipe = TrainArgs::from_file(&path).unwrap().resolve().unwrap();
    assert_eq!((recipe.epochs, recipe.is_given("lr0")), (30, false));
    assert_eq!(recipe.freeze, Freeze::Modules(vec!["0".into(), "1".into()]));

    std::fs::write(&path, "epochs: 30\nmask_ratio: 8\n").unwrap();
    let error = TrainArgs::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("mask_ratio=8 is not supported"), "{error}");
}

#[test]
fn a_run_can_be_repeated_from_its_file_without_defaults_turning_into_wishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    for (given, expected) in [(vec![], false), (vec![("lr0", "0.01")], true)] {
        let recipe = args(&given).resolve().unwrap();
        std::fs::write(&path, recipe.to_yaml()).unwrap();
        let again = TrainArgs::from_file(&path).unwrap().resolve().unwrap();
        assert_eq!(again.is_given("lr0"), expected);
        assert_eq!(again.entries(), recipe.entries());
    }
}

#[test]
fn the_command_line_stands_over_the_file() {
    let merged = args(&[("epochs", "3")]).over(args(&[("epochs", "9"), ("seed", "4")]));
    let recipe = merged.resolve().unwrap();
    assert_eq!((recipe.epochs, recipe.seed), (3, 4));
}

#[test]
fn values_outside_their_range_are_refused_with_the_range() {
    let cases = [
        ("epochs", "0", "1 or more"),
        ("epochs", "ten", "a whole number"),
        ("batch", "0", "1 or more"),
        ("imgsz", "600", "a multiple of 32"),
        ("lr0", "0", "above 0"),
        ("lr0", "nan", "a finite number"),
        ("mosaic", "1.5", "from 0 to 1"),
        ("momentum", "1", "below 1"),
        ("optimizer", "Lion", "one of auto, SGD, AdamW, MuSGD"),
        ("cos_lr", "maybe", "true or false"),
        ("name", "../elsewhere", "a folder's name"),
        ("name", "", "a folder's name"),
        ("time", "-1", "above 0"),
        ("fraction", "0", "above 0 and at most 1"),
    ];
    for (name, value, expected) in cases {
        let error = TrainArgs::default().set_any(name, value).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(name), "{name}={value}: {error}");
    }
}

#[test]
fn what_has_no_effect_is_refused_not_ignored() {
    for (name, value) in [("dropout", "0.5"), ("copy_paste", "0.5")] {
        let error = args(&[(name, value)]).resolve().unwrap_err();
        assert!(matches!(&error, ArgumentError::NotHonoured { name: n, .. } if n == name), "{error}");
    }
    assert!(args(&[("device", "cpu"), ("batch", "-1"), ("rect", "false")]).resolve().is_ok());
    assert!(TrainArgs::default().set_any("distill_model", "big.pt").is_err());
}

#[test]
fn an_unknown_argument_names_the_nearest() {
    let error = TrainArgs::default().set_any("epoch", "3").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `epochs`?"));
}

#[test]
fn model_and_data_are_required() {
    let mut only_model = TrainArgs::default();
    only_model.set_any("model", "yolo11n").unwrap();
    assert_eq!(only_model.resolve().unwrap_err().to_string(), "`data` is missing");
    assert_eq!(TrainArgs::default().resolve().unwrap_err().to_string(), "`model` is missing");
}

#[test]
fn every_default_of_the_reference_is_accepted_and_is_ours() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/train/default_args.json");
    let text = std::fs::read_to_string(path).unwrap();
    let fixture: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(fixture.len() > 90, "{}", fixture.len());
    let mut args = TrainArgs::default();
    for (name, value) in &fixture {
        // Where ours has a value and the reference computes one: the run's folder. And it has no default model or data.
        if ["model", "data", "project", "name", "cfg"].contains(&name.as_str()) {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        args.set_any(name, &text).unwrap_or_else(|error| panic!("{name}={text}: {error}"));
    }
    assert_eq!(args.without_defaults(), TrainArgs::default());
}
