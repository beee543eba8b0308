use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> DataYaml {
    parse(text, Path::new("data.yaml")).unwrap()
}

fn error(text: &str) -> String {
    parse(text, Path::new("data.yaml")).unwrap_err().to_string()
}

fn placed(text: &str, line: usize) -> Placed {
    Placed { text: text.into(), line }
}

#[test]
fn the_usual_forms() {
    let yaml = parsed(
        "# a comment\npath: ../data/trees\ntrain: images/train\nval:\n  - images/val\n  - more.txt\ntest:\nnames:\n  0: pine\n  1: 'fir'\nnc: 2\n",
    );
    assert_eq!(yaml.path, Some(placed("../data/trees", 2)));
    assert_eq!(yaml.train, [placed("images/train", 3)]);
    assert_eq!(yaml.val, [placed("images/val", 5), placed("more.txt", 6)]);
    assert!(yaml.test.is_empty());
    assert_eq!(yaml.names, ["pine", "fir"]);
    assert_eq!(yaml.name_lines, [9, 10]);
    assert_eq!((yaml.channels, yaml.keypoint_numbers), (3, None));
    assert!(yaml.warnings.is_empty());
}

#[test]
fn a_roboflow_export_reads_with_a_warning() {
    let yaml = parsed(
        "train: ../train/images\nval: ../valid/images\n\nnc: 1\nnames: ['0']\nroboflow:\n  workspace: w\n  version: 3\ndownload: |\n  import os\n",
    );
    assert_eq!(yaml.names, ["0"]);
    assert_eq!(yaml.warnings.iter().map(|w| w.line).collect::<Vec<_>>(), [6, 9]);
    assert!(yaml.warnings[1].text.contains("never run"));
}

#[test]
fn keypoints_are_counted_and_left_out_aloud() {
    let yaml = parsed("train: a\nval: b\nnames: [person]\nkpt_shape: [17, 3]\n");
    assert_eq!(yaml.keypoint_numbers, Some(51));
    assert_eq!(yaml.warnings.len(), 1);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_key() {
    assert_eq!(
        error("train: a\nvall: b\nnames: [x]"),
        "data.yaml:2: unknown key `vall`: did you mean `val`?"
    );
    assert_eq!(
        error("train: a\n\nclasses: [x]"),
        "data.yaml:3: unknown key `classes`: did you mean `names`?"
    );
    assert_eq!(error("Train: a"), "data.yaml:1: unknown key `Train`: did you mean `train`?");
    let far = error("train: a\nzebrafish: b\nnames: [x]");
    assert_eq!(
        far,
        "data.yaml:2: unknown key `zebrafish`: the keys are path, train, val, test, names, nc, channels, kpt_shape"
    );
}

#[test]
fn each_fault_has_its_line() {
    let head = "train: a\nval: b\n";
    for (rest, expected) in [
        ("names: [x]\nnc: 2", ":4: `nc` says 2 classes but `names` has 1"),
        ("names: {0: a, 2: b}", ":3: `names` has no class 1"),
        ("names:\n  0: a\n  0: b", ":5: `0` is given twice"),
        ("names:\n  0: a\n  00: b", ":5: `00` is given twice"),
        ("names:\n  zero: a", ":4: `names` must be keyed by class numbers"),
        ("names: [a, [b]]", ":3: `names` must be texts"),
        ("names: x", ":3: `names` must be a list"),
        ("nc: many", ":3: `nc` must be a whole number"),
        (
            "names: [x]\nchannels: 0",
            ":4: `channels` must be the number of channels of the pictures, 1 to 1024",
        ),
        ("nc: -1", ":3: `nc` must be a whole number"),
        ("names: []", ":3: `names` must be a list"),
        ("nc: 100000", ":3: names more than 65536 classes"),
        ("train: c\nnames: [x]", ":3: `train` is given twice"),
        ("names: [x\n", "is not valid YAML"),
        ("test: {a: b}\nnames: [x]", ":3: `test` must be a folder"),
        ("names: &n [x]\nnc: *n", ":4: an alias"),
        ("names: [x]\n---\na: b", "second YAML document"),
        ("names: [x]\nkpt_shape: 3", ":4: `kpt_shape` must be"),
        ("", ": has no `names`"),
    ] {
        let error = error(&format!("{head}{rest}"));
        assert!(error.contains(expected), "{rest:?} gave {error}");
    }
    assert!(error("names: [x]").contains("data.yaml: has no `train`"));
    assert!(error("- a\n- b").contains("must be a mapping"));
    assert!(error("").contains("must be a mapping"));
}

#[test]
fn only_nc_makes_names_up_and_says_so() {
    let yaml = parsed("train: a\nval: b\nnc: 2");
    assert_eq!(yaml.names, ["class_0", "class_1"]);
    assert_eq!(yaml.warnings[0].line, 3);
}

#[test]
fn deep_nesting_is_refused() {
    let block = format!("train: a\nnames:\n  {}x\n", "- ".repeat(50_000));
    assert!(error(&block).contains("nested too deeply"));
    // The parser has its own bound for brackets; either is an error.
    assert!(error(&format!("names: {}", "[".repeat(50_000))).contains("data.yaml:1"));
}

#[test]
fn files_are_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.yaml");
    assert!(read(&path).unwrap_err().to_string().contains("d.yaml: cannot be read"));
    std::fs::write(&path, b"train: a\nval: \xff\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("d.yaml:2: is not UTF-8"));
}

proptest! {
    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}|([ \\-a-c:\\[\\]{}&*'\"|>\n]|train|names|nc|val|0){0,60}") {
        let _ = parse(&text, Path::new("data.yaml"));
    }

    #[test]
    fn what_is_written_is_read_back(
        train in prop::collection::vec("[a-z/._ ]{0,12}[a-z]", 1..4),
        val in prop::collection::vec("[a-z]{1,8}", 0..3),
        names in prop::collection::vec("[ -~]{0,10}[!-~]", 1..9),
        as_map in any::<bool>(),
    ) {
        let quote = |s: &String| format!("'{}'", s.replace('\'', "''"));
        let list = |l: &[String]| format!("[{}]", l.iter().map(quote).collect::<Vec<_>>().join(", "));
        let written = if as_map {
            names.iter().enumerate().rev().map(|(i, n)| format!("\n  {i}: {}", quote(n))).collect::<String>()
        } else {
            list(&names)
        };
        let mut text = format!("train: {}\nnames: {written}\nnc: {}\n", list(&train), names.len());
        if !val.is_empty() {
            text += &format!("val: {}\n", list(&val));
        }
        let yaml = parsed(&text);
        let texts = |p: &[Placed]| p.iter().map(|p| p.text.clone()).collect::<Vec<_>>();
        prop_assert_eq!(texts(&yaml.train), train);
        prop_assert_eq!(texts(&yaml.val), val);
        let trimmed: Vec<_> = names.iter().map(|n| n.trim().to_string()).collect();
        prop_assert_eq!(yaml.names, trimmed);
    }
}
