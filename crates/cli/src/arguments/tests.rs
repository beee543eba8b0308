use super::*;
use crate::verbs::Positional;
use onsa_tune::train::recipe::TrainArgs;
use std::process::ExitCode;

const TRAIN: Verb = Verb {
    name: "train",
    about: "",
    positional: None,
    tables: &[TrainArgs::TABLE],
    also_known: |name| name == "mask_ratio",
    examples: &[],
    run: |_| Ok(ExitCode::SUCCESS),
};
const INSPECT: Verb =
    Verb { name: "inspect", positional: Some(Positional { name: "FILE", help: "" }), tables: &[], ..TRAIN };

fn given(verb: &Verb, line: &[&str]) -> Result<Invocation, Failure> {
    match parse(verb, line.iter().map(|token| token.to_string()).collect())? {
        Parsed::Run(invocation) => Ok(invocation),
        Parsed::Help => panic!("no help was asked for"),
    }
}

fn pairs(line: &[&str]) -> Vec<(String, String)> {
    given(&TRAIN, line).unwrap().given
}

#[test]
fn the_three_forms_and_both_spellings_mean_the_same() {
    let expected = vec![("close_mosaic".to_string(), "3".to_string())];
    for line in
        [&["close_mosaic=3"][..], &["--close_mosaic", "3"], &["--close-mosaic=3"], &["--close-mosaic", "3"]]
    {
        assert_eq!(pairs(line), expected, "{line:?}");
    }
}

#[test]
fn a_bare_flag_is_true_and_takes_a_truth_value_that_follows() {
    assert_eq!(pairs(&["--cos_lr", "epochs=3"])[0].1, "true");
    assert_eq!(pairs(&["--cos_lr", "False"])[0].1, "False");
}

#[test]
fn a_value_may_start_with_a_dash() {
    assert_eq!(pairs(&["--batch", "-1"])[0].1, "-1");
    assert_eq!(pairs(&["save_period=-1"])[0].1, "-1");
}

#[test]
fn values_keep_their_equal_signs() {
    assert_eq!(pairs(&["data=a=b.yaml"])[0].1, "a=b.yaml");
}

#[test]
fn json_needs_no_value_and_does_not_swallow_the_file() {
    let invocation = given(&INSPECT, &["--json", "x.pt"]).unwrap();
    assert!(invocation.json);
    assert_eq!(invocation.positional.as_deref(), Some(Path::new("x.pt")));
    assert!(!given(&INSPECT, &["json=false", "x.pt"]).unwrap().json);
}

#[test]
fn a_double_dash_ends_the_names() {
    let invocation = given(&INSPECT, &["--", "--odd=name.pt"]).unwrap();
    assert_eq!(invocation.positional.as_deref(), Some(Path::new("--odd=name.pt")));
}

#[test]
fn wrong_lines_are_refused_as_usage() {
    let cases: [(&[&str], &str); 7] = [
        (&["epoch=3"], "did you mean `epochs`?"),
        (&["--epoch", "3"], "did you mean `epochs`?"),
        (&["epochs"], "did you mean `epochs=...`?"),
        (&["--epochs"], "write --epochs VALUE or epochs=VALUE"),
        (&["epochs=3", "--epochs=4"], "give it once"),
        (&["-e", "3"], "did you mean `epochs`?"),
        (&["--xyzzy", "3"], "`onsa help train` lists them"),
    ];
    for (line, hint) in cases {
        let failure = given(&TRAIN, line).unwrap_err();
        assert!(failure.usage, "{line:?}");
        assert_eq!(failure.hint.as_deref(), Some(hint), "{line:?}: {}", failure.message);
    }
    assert!(given(&INSPECT, &["a", "b"]).unwrap_err().message.contains("both `a` and `b`"));
}
