//! NVRTC: from a source's text to code for one kind of GPU, kept on disk.
//!
//! A compiled source lies in the cache folder (`ONSA_CACHE`, else `XDG_CACHE_HOME/onsa`, else `HOME/.cache/onsa`) under
//! a name made of the text, the GPU's kind and NVRTC's version; a file whose checksum fails is compiled anew.

use std::ffi::{CString, c_char};
use std::path::PathBuf;

use cudarc::nvrtc::{result, sys};
use sha2::{Digest, Sha256};

use super::libraries::Library;
use super::{COMMON, CudaError, Source};

/// The first line of a source whose multiplications and additions are not to be contracted, so that they round as the
/// processor's.
const EXACT: &str = "// exact\n";

/// A GPU's compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arch {
    /// First number.
    pub major: i32,
    /// Second number.
    pub minor: i32,
}

impl Arch {
    /// The oldest that the kernels run on.
    pub const OLDEST: Arch = Arch { major: 8, minor: 0 };
    /// Hopper.
    pub const HOPPER: Arch = Arch { major: 9, minor: 0 };

    fn option(self) -> String {
        format!("--gpu-architecture=sm_{}{}", self.major, self.minor)
    }
}

/// A compiled source.
pub struct Compiled {
    /// Code that the driver loads.
    pub cubin: Vec<u8>,
    /// The compiler's messages.
    pub log: String,
}

/// What the compiler said of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelReport {
    /// The kernel's name.
    pub kernel: String,
    /// Registers a thread.
    pub registers: u32,
    /// Bytes of registers that went to memory.
    pub spilled: u32,
    /// Bytes of static shared memory.
    pub shared: u32,
}

impl Compiled {
    /// Registers, spills and shared memory of each kernel, from a compilation that was not taken from the cache.
    pub fn report(&self) -> Vec<KernelReport> {
        let number_before = |line: &str, unit: &str| -> u32 {
            let end = line.find(unit).unwrap_or(0);
            line[..end].split_whitespace().next_back().and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let mut reports: Vec<KernelReport> = Vec::new();
        for line in self.log.lines() {
            if line.contains("Compiling entry function")
                && let Some(kernel) = line.split('\'').nth(1)
            {
                let kernel = kernel.to_owned();
                reports.push(KernelReport { kernel, registers: 0, spilled: 0, shared: 0 });
            }
            let Some(last) = reports.last_mut() else { continue };
            if line.contains("bytes spill stores") {
                last.spilled = number_before(line, " bytes spill stores");
            }
            if line.contains("registers") {
                last.registers = number_before(line, " registers");
                last.shared = number_before(line, " bytes smem");
            }
        }
        reports
    }
}

/// Compiles a source. Needs no GPU.
///
/// # Errors
/// NVRTC is missing, or the source does not compile.
pub fn compile(source: &Source, arch: Arch) -> Result<Compiled, CudaError> {
    Library::Nvrtc.find()?;
    let failed = |log: String| CudaError::Compile { source_name: source.name, log };
    let text = CString::new(source.text).map_err(|_| failed("the text holds a zero byte".into()))?;
    let name = CString::new(format!("{}.cu", source.name)).map_err(|_| failed("bad name".into()))?;
    let common = CString::new(COMMON).map_err(|_| failed("common.cuh holds a zero byte".into()))?;
    let mut options = vec![
        arch.option(),
        "--std=c++17".into(),
        "--extra-device-vectorization".into(),
        "--ptxas-options=-v".into(),
        "--define-macro=ONSA_CUDA".into(),
        // Lambdas with parameters of any type would else be the host's.
        "--device-as-default-execution-space".into(),
    ];
    if source.text.starts_with(EXACT) {
        options.push("--fmad=false".into());
    }
    let headers = [common.as_ptr()];
    let names = [c"common.cuh".as_ptr()];
    let mut program: sys::nvrtcProgram = std::ptr::null_mut();
    // SAFETY: the strings outlive the program; each is ended by a zero byte.
    unsafe {
        sys::nvrtcCreateProgram(
            &mut program,
            text.as_ptr(),
            name.as_ptr(),
            1,
            headers.as_ptr(),
            names.as_ptr(),
        )
        .result()
        .map_err(|error| failed(error.to_string()))?;
    }
    // SAFETY: the program was made above, and is destroyed once, at the end.
    unsafe {
        let compiled = result::compile_program(
            program,
            &options.into_iter().map(String::into_bytes).collect::<Vec<_>>(),
        );
        let log = result::get_program_log(program).map(|log| text_of(&log)).unwrap_or_default();
        let outcome = match compiled {
            Err(error) => Err(failed(format!("{error}\n{log}"))),
            Ok(()) => cubin(program).map(|cubin| Compiled { cubin, log }).map_err(failed),
        };
        let _ = result::destroy_program(program);
        outcome
    }
}

fn text_of(log: &[c_char]) -> String {
    let bytes: Vec<u8> = log.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// # Safety
/// The program is alive and was compiled.
unsafe fn cubin(program: sys::nvrtcProgram) -> Result<Vec<u8>, String> {
    let mut size = 0;
    // SAFETY: `size` receives the length, which the buffer then has.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &mut size).result().map_err(|error| error.to_string())?;
        let mut cubin = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast()).result().map_err(|error| error.to_string())?;
        Ok(cubin)
    }
}

/// Compiles every source; gives each one's name and result. For tests on machines without a GPU.
pub fn compile_all(
    sources: impl IntoIterator<Item = &'static Source>,
    arch: Arch,
) -> Vec<(&'static str, Result<Compiled, CudaError>)> {
    sources.into_iter().map(|source| (source.name, compile(source, arch))).collect()
}

/// As [`compile`], from the cache where it holds the source.
pub(super) fn compile_cached(source: &Source, arch: Arch) -> Result<Compiled, CudaError> {
    Library::Nvrtc.find()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two integers are received.
    let version = unsafe { sys::nvrtcVersion(&mut major, &mut minor) };
    let key = format!("{}\n{}\n{arch:?} {version:?} {major}.{minor}", source.text, COMMON);
    let file = cache_folder().map(|folder| {
        folder.join("kernels").join(format!("{}-{}.cubin", source.name, &hex(key.as_bytes())[..32]))
    });
    if let Some(cubin) = file.as_ref().and_then(|file| std::fs::read(file).ok()).and_then(checked) {
        return Ok(Compiled { cubin, log: String::new() });
    }
    let compiled = compile(source, arch)?;
    if let Some(file) = file {
        // A cache that cannot be written costs the next start some seconds, no more.
        let _ = store(&file, &compiled.cubin);
    }
    Ok(compiled)
}

/// The folder for what can be made again: `ONSA_CACHE`, else `XDG_CACHE_HOME/onsa`, else `HOME/.cache/onsa`.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ONSA_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("onsa")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/onsa")))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a cache file, if its checksum (the last 32 bytes) holds.
fn checked(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let at = bytes.len().checked_sub(32)?;
    let sum = bytes.split_off(at);
    (Sha256::digest(&bytes).as_slice() == sum).then_some(bytes)
}

/// Writes a cache file whole or not at all.
fn store(file: &std::path::Path, content: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(folder)?;
    let scratch = file.with_extension(format!("{}.part", std::process::id()));
    let mut bytes = content.to_vec();
    bytes.extend_from_slice(Sha256::digest(content).as_slice());
    std::fs::write(&scratch, bytes)?;
    std::fs::rename(&scratch, file)
}
