//! Wrong command lines: exit code 2, one message, a hint, nothing on stdout, nothing written.
mod common;

use common::onsa;

#[test]
fn every_wrong_line_exits_2_with_a_message_and_a_hint() {
    let cases: &[(&[&str], &str)] = &[
        (&["dmo"], "error: there is no verb `dmo`\nhint: did you mean `onsa demo`?\n"),
        (&["demo", "ofline=true"], "error: `demo` has no argument `ofline`\nhint: did you mean `offline`?\n"),
        (
            &["demo", "--offline=maybe"],
            "error: offline=maybe is not allowed: offline must be true or false\n",
        ),
        (&["demo", "--seed"], "error: `--seed` needs a value\nhint: write --seed VALUE or seed=VALUE\n"),
        (&["demo", "seed=1", "--seed", "2"], "error: `seed` is given twice\nhint: give it once\n"),
        (
            &["demo", "offline"],
            "error: `offline` is not of the form key=value\nhint: did you mean `offline=...`?\n",
        ),
        (
            &["demo", "--offline", "--fetch-only"],
            "error: `offline` and `fetch_only` contradict one another\nhint: --fetch-only brings files, \
             --offline needs none\n",
        ),
        (&["help", "doktor"], "error: there is no verb `doktor`\nhint: did you mean `onsa doctor`?\n"),
        (&["doctor", "--json=perhaps"], "error: json=perhaps is not allowed: json must be true or false\n"),
    ];
    for (line, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let ran = onsa(folder.path(), line);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (2, "", *expected), "{line:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{line:?} wrote something");
    }
}

#[test]
fn no_verb_shows_the_overview_on_stderr_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let ran = onsa(folder.path(), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("Usage: onsa VERB"), "{}", ran.stderr);
}

#[test]
fn help_and_version_answer_on_stdout() {
    let folder = tempfile::tempdir().unwrap();
    for line in [&["help"][..], &["--help"], &["help", "demo"], &["demo", "--help"], &["doctor", "-h"]] {
        let ran = onsa(folder.path(), line);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{line:?}");
        assert!(ran.stdout.contains("Usage: onsa"), "{line:?}: {}", ran.stdout);
    }
    assert_eq!(onsa(folder.path(), &["--version"]).stdout, format!("onsa {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_help_names_every_argument_with_its_default() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(onsa(folder.path(), &["help", "demo"]).stdout);
}
