//! File operations that fail on command, beneath everything that this thread writes durably.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Disk, Files, SUFFIX, Scratch, Step};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk is full after half of the first piece.
    NoSpace,
    /// The disk reports an input/output error when its bytes are to be brought to it.
    IoError,
    /// The disk takes fewer bytes than it is given, and then none.
    ShortWrite,
    /// The process is killed at this step: nothing it would do afterwards happens, no tidying either.
    Killed(Step),
}

/// The real file system, where the `at`-th durable write meets `fault`.
#[derive(Debug)]
pub(crate) struct Faulty {
    at: Option<(usize, Fault)>,
    /// The files written so far, in their order.
    pub writes: RefCell<Vec<PathBuf>>,
    dead: Cell<bool>,
}

impl Faulty {
    /// Nothing fails; what is written is counted.
    pub fn counting() -> Rc<Faulty> {
        Rc::new(Faulty { at: None, writes: RefCell::default(), dead: Cell::new(false) })
    }

    /// The write of that number, from 0, fails.
    pub fn new(at: usize, fault: Fault) -> Rc<Faulty> {
        Rc::new(Faulty { at: Some((at, fault)), writes: RefCell::default(), dead: Cell::new(false) })
    }

    /// The fault of the write under way, if it is its turn.
    fn fault(&self) -> Option<Fault> {
        let (at, fault) = self.at?;
        (self.writes.borrow().len() == at + 1).then_some(fault)
    }

    fn alive(&self, at: Step) -> io::Result<()> {
        if self.fault() == Some(Fault::Killed(at)) {
            self.dead.set(true);
        }
        if self.dead.get() { Err(io::Error::other("killed")) } else { Ok(()) }
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Faulty>>> = const { RefCell::new(None) };
}

/// The operations that this thread's durable writes go through, if not the disk's own.
pub(crate) fn current() -> Option<Rc<Faulty>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Runs `run` with every durable write of this thread going through `files`.
pub(crate) fn with<T>(files: &Rc<Faulty>, run: impl FnOnce() -> T) -> T {
    CURRENT.set(Some(Rc::clone(files)));
    let result = run();
    CURRENT.set(None);
    result
}

/// `.last.safetensors.12-3.onsa-scratch` -> `last.safetensors`.
fn final_name(scratch: &Path) -> PathBuf {
    let name = scratch.file_name().and_then(|n| n.to_str()).expect("a scratch file's name is text");
    let inner = name.strip_prefix('.').and_then(|n| n.strip_suffix(SUFFIX)).expect("a scratch file's name");
    let (stem, _) = inner.trim_end_matches('.').rsplit_once('.').expect("name and number");
    scratch.with_file_name(stem)
}

struct FaultyScratch {
    file: Box<dyn Scratch>,
    files: Rc<Faulty>,
    written: bool,
}

impl Write for FaultyScratch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.files.alive(Step::Write)?;
        let half = &bytes[..bytes.len() / 2];
        match self.files.fault() {
            Some(Fault::NoSpace | Fault::ShortWrite) if !self.written && !half.is_empty() => {
                self.written = true;
                self.file.write(half)
            }
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::ShortWrite) => Ok(0),
            _ => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Scratch for FaultyScratch {
    fn sync(&mut self) -> io::Result<()> {
        self.files.alive(Step::Sync)?;
        match self.files.fault() {
            // EIO.
            Some(Fault::IoError) => Err(io::Error::from_raw_os_error(5)),
            _ => self.file.sync(),
        }
    }
}

impl Files for Rc<Faulty> {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Scratch>> {
        self.writes.borrow_mut().push(final_name(path));
        self.alive(Step::Create)?;
        let file = Disk.create(path)?;
        Ok(Box::new(FaultyScratch { file, files: Rc::clone(self), written: false }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive(Step::Rename)?;
        Disk.rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.alive(Step::SyncFolder)?;
        Disk.sync_folder(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive(Step::Rename)?;
        Disk.remove(path)
    }
}
