//! Modules of kernels, and launching them.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as FunctionAttribute};

use super::compiler::Compiled;
use super::error::Calling;
use super::{CudaError, Device, Stream};

/// Shared memory that a block gets without being asked about it.
const PLAIN_SHARED: u32 = 48 * 1024;

/// A loaded source.
pub struct Module {
    raw: sys::CUmodule,
    name: &'static str,
    context: sys::CUcontext,
}

// SAFETY: modules may be used from any thread.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    pub(super) fn new(device: &Device, name: &'static str, compiled: &Compiled) -> Result<Module, CudaError> {
        device.bind()?;
        // SAFETY: the image is what NVRTC gave (its checksum held); the driver checks its form.
        let raw = unsafe { result::module::load_data(compiled.cubin.as_ptr().cast()) }
            .calling("cuModuleLoadData")?;
        let context = result::ctx::get_current().calling("cuCtxGetCurrent")?.unwrap_or(std::ptr::null_mut());
        Ok(Module { raw, name, context })
    }

    /// A kernel by its name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn kernel(self: &Arc<Module>, name: &str) -> Result<Kernel, CudaError> {
        let missing = || CudaError::NoKernel { module: self.name, kernel: name.to_owned() };
        let text = CString::new(name).map_err(|_| missing())?;
        // SAFETY: the module is loaded and its context alive; the lookup needs that context.
        let raw = unsafe {
            result::ctx::set_current(self.context).calling("cuCtxSetCurrent")?;
            result::module::get_function(self.raw, text)
        }
        .map_err(|_| missing())?;
        Ok(Kernel { raw, _module: Arc::clone(self) })
    }
}

/// A kernel that can be launched. Its module is never unloaded while it lives; modules live as long as their device.
#[derive(Clone)]
pub struct Kernel {
    raw: sys::CUfunction,
    _module: Arc<Module>,
}

// SAFETY: functions may be used from any thread.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// A kernel's argument: a plain value whose bytes are those of the kernel's parameter (numbers, device addresses as
/// `u64`, `#[repr(C)]` structures of them).
pub struct Argument<'a>(*mut c_void, std::marker::PhantomData<&'a ()>);

impl<'a, T: Copy> From<&'a T> for Argument<'a> {
    fn from(value: &'a T) -> Argument<'a> {
        Argument(std::ptr::from_ref(value).cast_mut().cast(), std::marker::PhantomData)
    }
}

impl Kernel {
    /// Lets blocks have `bytes` of dynamic shared memory.
    ///
    /// # Errors
    /// The GPU has not as much.
    pub fn allow_shared(&self, bytes: u32) -> Result<(), CudaError> {
        if bytes <= PLAIN_SHARED {
            return Ok(());
        }
        // SAFETY: the function is alive.
        unsafe {
            result::function::set_function_attribute(
                self.raw,
                FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                bytes as i32,
            )
        }
        .calling("cuFuncSetAttribute")
    }

    /// Blocks of `threads` threads and `shared` bytes of dynamic shared memory that a multiprocessor holds at once.
    ///
    /// # Errors
    /// The driver fails.
    pub fn blocks_per_processor(&self, threads: u32, shared: u32) -> Result<u32, CudaError> {
        let mut blocks = 0;
        // SAFETY: the function is alive; `blocks` receives one integer.
        unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &mut blocks,
                self.raw,
                threads as i32,
                shared as usize,
            )
        }
        .calling("cuOccupancyMaxActiveBlocksPerMultiprocessor")?;
        Ok(blocks.max(1) as u32)
    }

    /// Launches `grid` blocks of `block` threads (each `[x, y, z]`) with `shared` bytes of dynamic shared memory.
    ///
    /// # Errors
    /// The driver refuses.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number, order and type; the addresses among them are of this device, and
    /// hold what the kernel reads and writes until it has run.
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &[Argument],
    ) -> Result<(), CudaError> {
        stream.device().bind()?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|argument| argument.0).collect();
        // SAFETY: the caller's promise.
        unsafe {
            result::launch_kernel(
                self.raw,
                (grid[0], grid[1], grid[2]),
                (block[0], block[1], block[2]),
                shared,
                stream.raw(),
                &mut pointers,
            )
        }
        .calling("cuLaunchKernel")
    }
}
