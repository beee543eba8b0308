//! Runs the real binary in a folder of its own.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use onsa::demo::assets::{self, ASSETS};

/// What a command left behind.
pub struct Ran {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error, with the folder's path replaced by `[DIR]`.
    pub stderr: String,
}

/// A command line of `onsa` that runs in `folder`, sees no cache but one inside it, and no colours.
pub fn command(folder: &Path, line: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onsa"));
    command.args(line).current_dir(folder).env("NO_COLOR", "1").env("ONSA_ASSETS", folder.join("assets"));
    command
}

/// Runs `onsa` with these arguments in `folder`.
pub fn onsa(folder: &Path, line: &[&str]) -> Ran {
    ran(folder, command(folder, line).output().expect("the binary was built with this test"))
}

/// Reads what a finished command left.
pub fn ran(folder: &Path, output: Output) -> Ran {
    let text = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).expect("onsa writes UTF-8");
        text.replace(&*folder.to_string_lossy(), "[DIR]")
    };
    Ran {
        code: output.status.code().expect("no test kills the command"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Writes a small MobileNetV3 of five classes (fixtures/classify), with its description, into `folder`: the file's name.
pub fn small_classifier(folder: &Path) -> &'static str {
    use onsa_intake::checkpoint::{self, Meta, write_safetensors};
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/classify");
    let name = "mobilenet_v3_small_tiny";
    let text = std::fs::read_to_string(fixtures.join(format!("{name}.json"))).expect("a fixture");
    let facts: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let read = checkpoint::read(&fixtures.join(format!("{name}.weights.safetensors"))).expect("a fixture");
    let meta = Meta {
        yaml: Some(facts["description"].clone()),
        names: Some((0..5).map(|i| i.to_string()).collect()),
        nc: Some(5),
        task: Some("classify".to_owned()),
        imgsz: Some([80, 80]),
        ..Meta::default()
    };
    let bytes = write_safetensors(&read.tensors, &meta).expect("it fits");
    std::fs::write(folder.join("leaves.safetensors"), bytes).expect("a folder of the test's own");
    "leaves.safetensors"
}

/// The cache folder with every asset in place; `None` on a person's machine that has none. In CI that is a failure.
pub fn real_assets() -> Option<PathBuf> {
    let folder = assets::folder().expect("a home folder");
    if ASSETS.iter().all(|asset| assets::is_present(&folder, asset)) {
        return Some(folder);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "no assets in {}: run `onsa demo --fetch-only`",
        folder.display()
    );
    eprintln!("skipped: no assets in {} (`onsa demo --fetch-only` brings them)", folder.display());
    None
}
