//! Finding CUDA's libraries, none of which is linked.
//!
//! Searched, in order: the folders of the environment variable `ONSA_CUDA_PATH` (a list as in `PATH`; in each also its
//! `lib`, `lib64` and the `lib` of each folder in it, so that Python's `site-packages/nvidia` can be named as it is);
//! what the system's loader finds (`LD_LIBRARY_PATH`, its cache); the usual folders of the toolkit.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::CudaError;

/// The variable that names folders to search first.
pub const PATH_VARIABLE: &str = "ONSA_CUDA_PATH";

/// A library that the engine opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The driver, `libcuda`.
    Driver,
    /// The run-time compiler, `libnvrtc`.
    Nvrtc,
}

impl Library {
    /// All of them.
    pub const ALL: [Library; 2] = [Library::Driver, Library::Nvrtc];

    /// What people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Library::Driver => "NVIDIA's driver (libcuda)",
            Library::Nvrtc => "NVRTC, CUDA's run-time compiler (libnvrtc)",
        }
    }

    /// How to get it.
    pub fn remedy(self) -> &'static str {
        match self {
            Library::Driver => "install the driver of your GPU, or use device=cpu",
            Library::Nvrtc => {
                "`pip install nvidia-cuda-nvrtc` brings it; then set ONSA_CUDA_PATH to the folder that holds it, \
                 site-packages/nvidia for example"
            }
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Library::Driver => "cuda",
            Library::Nvrtc => "nvrtc",
        }
    }

    /// The library's place where it was found in a folder of its own, an empty path where the system's loader finds it.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn find(self) -> Result<&'static Path, CudaError> {
        static DRIVER: OnceLock<Option<PathBuf>> = OnceLock::new();
        static NVRTC: OnceLock<Option<PathBuf>> = OnceLock::new();
        let found = match self {
            Library::Driver => DRIVER.get_or_init(|| open(self)),
            Library::Nvrtc => NVRTC.get_or_init(|| open(self)),
        };
        found.as_deref().ok_or(CudaError::Missing { library: self.name(), remedy: self.remedy() })
    }

    fn is_present(self) -> bool {
        // SAFETY: opening NVIDIA's libraries runs their initialisers, which have no preconditions.
        unsafe {
            match self {
                Library::Driver => cudarc::driver::sys::is_culib_present(),
                Library::Nvrtc => cudarc::nvrtc::sys::is_culib_present(),
            }
        }
    }
}

/// Opens a library and keeps it open, so that the bindings, which ask by name, get this one.
fn open(library: Library) -> Option<PathBuf> {
    let named = std::env::var_os(PATH_VARIABLE).unwrap_or_default();
    let first = std::env::split_paths(&named).flat_map(|folder| within(&folder));
    if let Some(path) = first.filter_map(|folder| file(&folder, library)).find(|path| keep_open(path))
        && library.is_present()
    {
        return Some(path);
    }
    if library.is_present() {
        return Some(PathBuf::new());
    }
    let usual = usual_folders().into_iter().flat_map(|folder| within(&folder));
    usual.filter_map(|folder| file(&folder, library)).find(|path| keep_open(path) && library.is_present())
}

fn usual_folders() -> Vec<PathBuf> {
    let toolkit = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let fixed = ["/usr/local/cuda", "/opt/cuda", "/usr/local/nvidia", "/usr/lib/x86_64-linux-gnu"];
    toolkit.chain(fixed.map(PathBuf::from)).collect()
}

fn within(folder: &Path) -> Vec<PathBuf> {
    if folder.as_os_str().is_empty() {
        return Vec::new();
    }
    let mut folders = vec![folder.to_owned(), folder.join("lib"), folder.join("lib64")];
    if let Ok(entries) = std::fs::read_dir(folder) {
        let mut inner: Vec<_> = entries.flatten().map(|entry| entry.path().join("lib")).collect();
        inner.sort();
        folders.extend(inner);
    }
    folders
}

/// The library's file in a folder: `libNAME.so`, or with a version behind it.
fn file(folder: &Path, library: Library) -> Option<PathBuf> {
    files(folder, library.stem()).pop()
}

fn files(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let prefix = format!("{}{stem}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name == prefix || name.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('.'))
        })
        .collect();
    files.sort();
    files
}

/// Opens a file for good. What it opens by name later, and would not find in its own folder, is opened first.
fn keep_open(path: &Path) -> bool {
    let beside = path.parent().map(|folder| files(folder, "nvrtc-builtins")).unwrap_or_default();
    let mut opened = false;
    for file in beside.iter().map(PathBuf::as_path).chain([path]) {
        // SAFETY: as in `is_present`; the library is never closed, so what it has set up stays valid.
        opened = match unsafe { libloading::Library::new(file) } {
            Ok(library) => {
                std::mem::forget(library);
                true
            }
            Err(_) => false,
        };
    }
    opened
}
