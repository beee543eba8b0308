//! A [`Machine`] without a GPU: the kernels compiled for the processor (`emulator/`), with the system's C++ compiler.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libloading::Library;
use onsa_compute::cuda::{CudaError, Source};

use super::{Machine, Memory, Value};

type Emulate = unsafe extern "C" fn(*const c_char, *const u32, *const u32, *mut *mut c_void) -> c_int;

/// Runs kernels one at a time: their shared memory is the library's own.
pub(super) struct Emulator {
    library: &'static Mutex<Library>,
}

impl Emulator {
    /// The emulator; none where the system has no C++ compiler. In CI that is a failure.
    pub(super) fn open() -> Option<Arc<dyn Machine>> {
        static LIBRARY: OnceLock<Option<Mutex<Library>>> = OnceLock::new();
        let library = LIBRARY.get_or_init(build).as_ref();
        if library.is_none() {
            assert!(std::env::var_os("CI").is_none(), "c++ is needed to test the CUDA kernels");
            eprintln!("skipped: no C++ compiler (c++) to run the CUDA kernels with");
        }
        Some(Arc::new(Emulator { library: library? }))
    }
}

fn build() -> Option<Mutex<Library>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu/emulator");
    let out = tempfile::tempdir().unwrap();
    let library = out.path().join("libemulator.so");
    let status = Command::new("c++")
        .args(["-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-o"])
        .arg(&library)
        .args(
            ["emulator.cpp", "augment.cpp", "crops.cpp", "loss.cpp", "optimiser.cpp"]
                .map(|file| folder.join(file)),
        )
        .status()
        .ok()?;
    assert!(status.success(), "the kernels do not compile for the processor");
    // SAFETY: built just now; its initialisers are C++'s own.
    Some(Mutex::new(unsafe { Library::new(&library) }.unwrap()))
}

impl Machine for Emulator {
    fn reserve(&self, bytes: usize) -> Result<u64, CudaError> {
        // Behind its length, in units that suit every type.
        let units = bytes.div_ceil(16) + 1;
        let mut memory = vec![0u128; units].into_boxed_slice();
        memory[0] = units as u128;
        Ok(Box::into_raw(memory).cast::<u128>().wrapping_add(1) as u64)
    }

    fn release(&self, address: u64) {
        // SAFETY: `reserve` put the length before the address.
        unsafe {
            let first = (address as *mut u128).sub(1);
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(first, *first as usize)));
        }
    }

    fn write(&self, memory: &Memory, start: usize, bytes: &[u8]) -> Result<(), CudaError> {
        assert!(start + bytes.len() <= memory.bytes());
        // SAFETY: the range lies in the reserved memory.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (memory.address() as *mut u8).add(start),
                bytes.len(),
            )
        };
        Ok(())
    }

    fn read(&self, memory: &Memory, start: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        assert!(start + bytes.len() <= memory.bytes());
        // SAFETY: as above.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (memory.address() as *const u8).add(start),
                bytes.as_mut_ptr(),
                bytes.len(),
            )
        };
        Ok(())
    }

    unsafe fn launch(
        &self,
        _: &'static Source,
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        arguments: &[Value],
    ) -> Result<(), CudaError> {
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(kernel).unwrap();
        let mut pointers: Vec<*mut c_void> = arguments
            .iter()
            .map(|value| match value {
                Value::Long(v) => std::ptr::from_ref(v).cast_mut().cast(),
                Value::Int(v) => std::ptr::from_ref(v).cast_mut().cast(),
                Value::Unsigned(v) => std::ptr::from_ref(v).cast_mut().cast(),
                Value::Float(v) => std::ptr::from_ref(v).cast_mut().cast(),
            })
            .collect();
        let (grid, block) = ([grid[0], grid[1], 1], [threads, 1, 1]);
        // SAFETY: the symbol is of this type; the arguments are the kernel's by the caller's promise.
        let result = unsafe {
            let emulate = library.get::<Emulate>(b"emulate\0").unwrap();
            emulate(name.as_ptr(), grid.as_ptr(), block.as_ptr(), pointers.as_mut_ptr())
        };
        assert_eq!(result, 0, "the emulator has no kernel {kernel}");
        Ok(())
    }
}
