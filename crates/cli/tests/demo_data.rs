//! The demo's data: real files through package clients, or drawn ones.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::{command, onsa, ran, real_assets};
use onsa::demo::tiles::{self, Count};

fn label_lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count()).sum()
}

#[test]
fn the_tree_tiles_are_35_with_669_boxes_and_9_with_320() {
    let Some(assets) = real_assets() else { return };
    let folder = tempfile::tempdir().unwrap();
    let laid = tiles::lay(&assets, &folder.path().join("trees")).unwrap();
    assert_eq!(laid.train, Count { tiles: 35, boxes: 669 });
    assert_eq!(laid.val, Count { tiles: 9, boxes: 320 });
    let root = laid.data.parent().unwrap();
    assert_eq!(label_lines(&root.join("labels/train")), 669);
    assert_eq!(label_lines(&root.join("labels/val")), 320);
    assert_eq!(std::fs::read_dir(root.join("images/train")).unwrap().count(), 35);
    let tile = root.join("images/val/2019_YELL_2_541000_4977000_image_crop_0_0.jpg");
    assert_eq!(image::image_dimensions(tile).unwrap(), (400, 400));
}

#[test]
fn without_clients_the_message_says_what_is_missing_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut without = command(folder.path(), &["demo", "--fetch-only"]);
    without.env("PATH", folder.path()).env("CARGO_HOME", folder.path()).env_remove("CARGO");
    let ran = ran(folder.path(), without.output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(ran.stderr);
    let left: Vec<_> = std::fs::read_dir(folder.path().join("assets")).unwrap().collect();
    assert!(left.is_empty(), "nothing half-written: {left:?}");
}

#[cfg(unix)]
#[test]
fn a_client_without_network_is_quoted() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\necho 'error: could not resolve host' >&2\nexit 101\n").unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut without = command(folder.path(), &["demo", "--fetch-only"]);
    without.env("CARGO", &cargo).env("CARGO_HOME", folder.path()).env("PATH", folder.path());
    let ran = ran(folder.path(), without.output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains(
            "cause: yolov12n.onnx (from the crate easy-yolo 0.1.3): `[DIR]/cargo info easy-yolo@0.1.3` failed"
        ),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("could not resolve host"), "{}", ran.stderr);
    assert!(ran.stderr.contains("and run the command again"), "{}", ran.stderr);
}

#[test]
fn a_file_in_the_way_of_the_cache_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("assets"), "").unwrap();
    let ran = onsa(folder.path(), &["demo", "--fetch-only"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.starts_with("error: cannot use [DIR]/assets: "), "{}", ran.stderr);
}
