use super::*;
use std::cell::Cell;

/// The real file system, failing at one step.
struct Failing {
    at: Step,
    with: fn() -> io::Error,
    /// Bytes that the disk takes before a failing write.
    room: usize,
    created: Cell<usize>,
}

struct FailingScratch {
    file: Box<dyn Scratch>,
    room: usize,
    fail_write: Option<fn() -> io::Error>,
    fail_sync: Option<fn() -> io::Error>,
}

impl Write for FailingScratch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(error) = self.fail_write else { return self.file.write(bytes) };
        let take = bytes.len().min(self.room);
        if take == 0 && !bytes.is_empty() {
            let error = error();
            return if error.kind() == io::ErrorKind::WriteZero { Ok(0) } else { Err(error) };
        }
        self.room -= take;
        self.file.write(&bytes[..take])
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Scratch for FailingScratch {
    fn sync(&mut self) -> io::Result<()> {
        self.fail_sync.map_or_else(|| self.file.sync(), |error| Err(error()))
    }
}

impl Failing {
    fn result(&self, step: Step) -> io::Result<()> {
        if self.at == step { Err((self.with)()) } else { Ok(()) }
    }
}

impl Files for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Scratch>> {
        self.result(Step::Create)?;
        self.created.set(self.created.get() + 1);
        Ok(Box::new(FailingScratch {
            file: Disk.create(path)?,
            room: self.room,
            fail_write: (self.at == Step::Write).then_some(self.with),
            fail_sync: (self.at == Step::Sync).then_some(self.with),
        }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.result(Step::Rename)?;
        Disk.rename(from, to)
    }
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.result(Step::SyncFolder)?;
        Disk.sync_folder(folder)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

const NO_SPACE: fn() -> io::Error = || io::Error::from(io::ErrorKind::StorageFull);
const IO_ERROR: fn() -> io::Error = || io::Error::other("Input/output error");
const SHORT_WRITE: fn() -> io::Error = || io::Error::from(io::ErrorKind::WriteZero);

#[test]
fn new_bytes_replace_old_ones_and_leave_no_scratch_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    write(&path, b"old").unwrap();
    write(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(folder.path()), ["last.safetensors"]);
}

#[test]
fn every_failure_before_the_rename_keeps_the_old_bytes_and_names_the_path() {
    let steps = [Step::Create, Step::Write, Step::Sync, Step::Rename];
    for (step, with) in steps.into_iter().flat_map(|step| [(step, NO_SPACE), (step, IO_ERROR)]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        write(&path, b"old").unwrap();
        let files = Failing { at: step, with, room: 2, created: Cell::new(0) };
        let error = write_with(&files, &path, |file| file.write_all(b"new bytes")).unwrap_err();
        assert_eq!((error.step, error.path.as_path()), (step, path.as_path()));
        assert!(error.to_string().contains("last.safetensors"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old", "{step:?}");
        assert_eq!(names(folder.path()), ["last.safetensors"], "{step:?}");
    }
}

#[test]
fn a_short_write_is_an_error_and_keeps_the_old_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    write(&path, b"old").unwrap();
    let files = Failing { at: Step::Write, with: SHORT_WRITE, room: 3, created: Cell::new(0) };
    let error = write_with(&files, &path, |file| file.write_all(b"new bytes")).unwrap_err();
    assert_eq!((error.step, error.source.kind()), (Step::Write, io::ErrorKind::WriteZero));
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
fn a_folder_that_cannot_be_synced_is_reported_with_the_new_bytes_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("args.yaml");
    let files = Failing { at: Step::SyncFolder, with: IO_ERROR, room: 0, created: Cell::new(0) };
    let error = write_with(&files, &path, |file| file.write_all(b"new")).unwrap_err();
    assert_eq!(error.step, Step::SyncFolder);
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_full_disk_is_said_in_words_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let files = Failing { at: Step::Write, with: NO_SPACE, room: 0, created: Cell::new(0) };
    let error = write_with(&files, &path, |file| file.write_all(b"x")).unwrap_err();
    assert!(error.to_string().ends_with("the disk is full"), "{error}");
    assert!(error.hint().starts_with("free some space"), "{}", error.hint());
}

#[test]
fn sweep_removes_what_a_killed_process_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(scratch_name(&folder.path().join("last.safetensors")).unwrap(), "half").unwrap();
    fs::write(folder.path().join("last.safetensors"), "whole").unwrap();
    assert_eq!(sweep(folder.path()).unwrap(), 1);
    assert_eq!(names(folder.path()), ["last.safetensors"]);
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = write(&folder.path().join("absent/args.yaml"), b"x").unwrap_err();
    assert_eq!(error.step, Step::Create);
    assert!(error.to_string().ends_with("the folder does not exist"), "{error}");
}
