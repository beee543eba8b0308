//! What the corpus in fuzz/corpus/archive does not show: contents, caps and the file system's refusals.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;

use super::*;

fn zipped(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        out.start_file(*name, SimpleFileOptions::default()).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap().into_inner()
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn contents_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("upload.zip");
    fs::write(&file, zipped(&[("a/b.txt", b"hello"), ("c.bin", &[7; 300_000]), ("a/.DS_Store", b"x")]))
        .unwrap();
    let root = folder.path().join("data");
    let unpacked = unpack(&file, &root, &Caps::default()).unwrap();
    assert_eq!(unpacked, Unpacked { files: 2, bytes: 300_005, left_out: 1 });
    assert_eq!(fs::read(root.join("a/b.txt")).unwrap(), b"hello");
    assert_eq!(fs::read(root.join("c.bin")).unwrap(), [7; 300_000]);
    assert_eq!(names(&root.join("a")), ["b.txt"]);
}

#[test]
fn each_cap_refuses_what_is_one_above_it() {
    let file = zipped(&[("a", &[1; 100]), ("b", &[2; 100])]);
    let exact = Caps { entries: 2, file_bytes: 100, total_bytes: 200, ratio: 0 };
    let folder = tempfile::tempdir().unwrap();
    let run = |caps: &Caps, name: &str| unpack_from(Cursor::new(&file), &folder.path().join(name), caps);
    assert_eq!(run(&exact, "exact").unwrap().files, 2);
    for (caps, expected) in [
        (Caps { entries: 1, ..exact }, "more than 1 files and folders"),
        (Caps { file_bytes: 99, ..exact }, "unpacks to more than"),
        (Caps { total_bytes: 199, ..exact }, "more than 199 bytes when unpacked"),
    ] {
        let error = run(&caps, "refused").unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(names(folder.path()), ["exact"]);
}

#[test]
fn a_folder_that_exists_is_left_alone_even_as_a_dangling_link() {
    let folder = tempfile::tempdir().unwrap();
    let file = zipped(&[("a", b"x")]);
    let there = folder.path().join("there");
    fs::create_dir(&there).unwrap();
    assert!(matches!(
        unpack_from(Cursor::new(&file), &there, &Caps::default()),
        Err(ArchiveError::Exists(_))
    ));
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
        let result = unpack_from(Cursor::new(&file), &link, &Caps::default());
        assert!(matches!(result, Err(ArchiveError::Exists(_))));
        assert!(!folder.path().join("elsewhere").exists());
    }
    assert!(names(&there).is_empty());
}

#[test]
fn a_missing_parent_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("absent/data");
    let error = unpack_from(Cursor::new(zipped(&[("a", b"x")])), &target, &Caps::default()).unwrap_err();
    assert!(error.to_string().contains("absent/data"), "{error}");
    assert!(!folder.path().join("absent").exists());
}

#[test]
fn a_refusal_names_the_file_and_what_is_wrong() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/archive");
    let folder = tempfile::tempdir().unwrap();
    for (file, expected) in [
        ("name_parent", "\"../a\" is not allowed: it contains . or .."),
        ("link", "\"a\": it is a symbolic link"),
        ("case_clash", "\"A.jpg\" is not allowed: another name differs from it in upper and lower case only"),
        ("encrypted", "\"a\": it is encrypted"),
        ("bomb", "unpack to more than"),
        ("bomb_that_lies", "\"a\": "),
    ] {
        let path = corpus.join(format!("refused_{file}.zip"));
        let error = unpack(&path, &folder.path().join("out"), &Caps::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{file}: {error}");
    }
}
