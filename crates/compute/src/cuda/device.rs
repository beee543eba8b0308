//! A GPU: its context, its stream, its facts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

use super::compiler::{self, Arch};
use super::error::Calling;
use super::libraries::Library;
use super::{CudaError, Module, Source};

/// What is known of a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceInfo {
    /// Its number.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub arch: Arch,
    /// Memory, bytes.
    pub memory: usize,
    /// Multiprocessors.
    pub processors: u32,
    /// Most shared memory that a block can have, bytes.
    pub shared_memory: u32,
    /// The driver's CUDA version, 1000 * major + 10 * minor.
    pub driver: i32,
}

/// A GPU in use: its primary context and one stream. Clones share them.
#[derive(Clone)]
pub struct Device {
    inner: Arc<Inner>,
}

struct Inner {
    info: DeviceInfo,
    context: sys::CUcontext,
    raw: sys::CUdevice,
    stream: sys::CUstream,
    /// Held while a stream's work is captured, and by what must not happen meanwhile in another thread.
    captures: Mutex<()>,
    modules: Mutex<HashMap<&'static str, Arc<Module>>>,
}

// SAFETY: contexts and streams may be used from any thread; `modules` is locked.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: both were made by `open`, and what used them holds a reference to this. At a process's end the driver may
        // have gone already; then there is nothing to give back.
        unsafe {
            let _ = result::ctx::set_current(self.context);
            let _ = result::stream::destroy(self.stream);
            let _ = result::primary_ctx::release(self.raw);
        }
    }
}

/// An order of work on a device.
#[derive(Clone)]
pub struct Stream {
    device: Device,
    raw: sys::CUstream,
    /// The stream of its own that this owns; the device's main stream is the device's.
    owned: Option<Arc<OwnedStream>>,
}

struct OwnedStream(sys::CUstream);

// SAFETY: streams may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above.
unsafe impl Sync for Stream {}
// SAFETY: as above.
unsafe impl Send for OwnedStream {}
// SAFETY: as above.
unsafe impl Sync for OwnedStream {}

impl Drop for OwnedStream {
    fn drop(&mut self) {
        // SAFETY: made by `Device::new_stream`; nothing uses it any more.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

impl Device {
    /// How many GPUs the driver shows.
    ///
    /// # Errors
    /// No driver, or it fails.
    pub fn count() -> Result<usize, CudaError> {
        Library::Driver.find()?;
        result::init().calling("cuInit")?;
        Ok(result::device::get_count().calling("cuDeviceGetCount")?.max(0) as usize)
    }

    /// Facts of a GPU, without taking it into use.
    ///
    /// # Errors
    /// No driver, no such GPU.
    pub fn info_of(ordinal: usize) -> Result<DeviceInfo, CudaError> {
        let count = Device::count()?;
        if ordinal >= count {
            return Err(CudaError::NoDevice { ordinal, count });
        }
        let raw = result::device::get(ordinal as i32).calling("cuDeviceGet")?;
        let name = result::device::get_name(raw).calling("cuDeviceGetName")?;
        let mut driver = 0;
        // SAFETY: the device exists; `driver` receives one integer.
        unsafe {
            sys::cuDriverGetVersion(&mut driver).calling("cuDriverGetVersion")?;
            let get =
                |attribute| result::device::get_attribute(raw, attribute).calling("cuDeviceGetAttribute");
            let major = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = get(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            Ok(DeviceInfo {
                ordinal,
                name,
                arch: Arch { major, minor },
                memory: result::device::total_mem(raw).calling("cuDeviceTotalMem")?,
                processors: get(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
                shared_memory: get(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u32,
                driver,
            })
        }
    }

    /// Takes a GPU into use.
    ///
    /// # Errors
    /// No driver or NVRTC, no such GPU, or it is too old.
    pub fn open(ordinal: usize) -> Result<Device, CudaError> {
        let info = Device::info_of(ordinal)?;
        Library::Nvrtc.find()?;
        if info.arch.major < 8 {
            let Arch { major, minor } = info.arch;
            return Err(CudaError::TooOld { name: info.name, major, minor });
        }
        let raw = result::device::get(ordinal as i32).calling("cuDeviceGet")?;
        // SAFETY: the device exists; the context is released and the stream destroyed when the last clone goes.
        unsafe {
            let context = result::primary_ctx::retain(raw).calling("cuDevicePrimaryCtxRetain")?;
            result::ctx::set_current(context).calling("cuCtxSetCurrent")?;
            let stream =
                result::stream::create(result::stream::StreamKind::NonBlocking).calling("cuStreamCreate")?;
            let inner =
                Inner { info, context, raw, stream, captures: Mutex::default(), modules: Mutex::default() };
            Ok(Device { inner: Arc::new(inner) })
        }
    }

    /// Runs what the driver does not allow while a stream's work is captured: to allocate, to free, to wait for the whole device.
    /// Waits while another thread captures.
    pub(super) fn between_captures<T>(&self, work: impl FnOnce() -> T) -> T {
        let _held = self.inner.captures.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    /// Its facts.
    pub fn info(&self) -> &DeviceInfo {
        &self.inner.info
    }

    /// Makes this device the calling thread's; every call of this module does so itself.
    pub(crate) fn bind(&self) -> Result<(), CudaError> {
        // SAFETY: the context lives as long as self.
        unsafe { result::ctx::set_current(self.inner.context) }.calling("cuCtxSetCurrent")
    }

    /// The stream that work is ordered on.
    pub fn stream(&self) -> Stream {
        Stream { device: self.clone(), raw: self.inner.stream, owned: None }
    }

    /// Another stream, for copies or work beside the main one's.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new_stream(&self) -> Result<Stream, CudaError> {
        self.bind()?;
        let raw =
            result::stream::create(result::stream::StreamKind::NonBlocking).calling("cuStreamCreate")?;
        Ok(Stream { device: self.clone(), raw, owned: Some(Arc::new(OwnedStream(raw))) })
    }

    /// Free and all memory, bytes.
    ///
    /// # Errors
    /// The driver fails.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        self.bind()?;
        result::mem_get_info().calling("cuMemGetInfo")
    }

    /// A source's kernels, compiled for this device; from the second call on those of the first.
    ///
    /// # Errors
    /// The source does not compile or load.
    pub fn load(&self, source: &'static Source) -> Result<Arc<Module>, CudaError> {
        let known = || self.inner.modules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(module) = known().get(source.name) {
            return Ok(Arc::clone(module));
        }
        let compiled = compiler::compile_cached(source, self.info().arch)?;
        let module = Arc::new(Module::new(self, source.name, &compiled)?);
        known().insert(source.name, Arc::clone(&module));
        Ok(module)
    }
}

impl Stream {
    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The driver's handle.
    pub fn raw(&self) -> sys::CUstream {
        debug_assert!(self.owned.as_ref().is_none_or(|owned| owned.0 == self.raw));
        self.raw
    }

    /// Waits until all work so far is done.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the stream is alive.
        unsafe { result::stream::synchronize(self.raw) }.calling("cuStreamSynchronize")
    }
}
