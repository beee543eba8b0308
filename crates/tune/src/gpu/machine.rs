//! What runs kernels: memory by address, and launches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use onsa_compute::cuda::{Argument, CudaError, Device, DeviceBuffer, Kernel, Plain, Source};

use super::SOURCES;

/// A kernel's argument.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// An address in the machine's memory, or a 64-bit count.
    Long(u64),
    /// An `int`.
    Int(i32),
    /// An `unsigned`.
    Unsigned(u32),
    /// A `float`.
    Float(f32),
}

/// Runs kernels in the order of their launch.
pub trait Machine: Send + Sync {
    /// The address of `bytes` zero bytes, until `release`.
    ///
    /// # Errors
    /// They do not fit.
    fn reserve(&self, bytes: usize) -> Result<u64, CudaError>;

    /// Gives memory back that `reserve` gave.
    fn release(&self, address: u64);

    /// Copies bytes in, after all launches so far.
    ///
    /// # Errors
    /// The device fails.
    fn write(&self, memory: &Memory, start: usize, bytes: &[u8]) -> Result<(), CudaError>;

    /// Copies bytes out, after all launches so far.
    ///
    /// # Errors
    /// The device fails.
    fn read(&self, memory: &Memory, start: usize, bytes: &mut [u8]) -> Result<(), CudaError>;

    /// Launches a kernel: `grid` blocks (x, y) of `threads`.
    ///
    /// # Errors
    /// The device refuses.
    ///
    /// # Safety
    /// The arguments are the kernel's in number, order and type; the addresses hold what it reads and writes until it
    /// has run.
    unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        arguments: &[Value],
    ) -> Result<(), CudaError>;
}

/// Memory of a machine.
pub struct Memory {
    machine: Arc<dyn Machine>,
    address: u64,
    bytes: usize,
}

impl Memory {
    /// Zeros for `len` values.
    ///
    /// # Errors
    /// They do not fit.
    pub fn zeros<T: Plain>(machine: &Arc<dyn Machine>, len: usize) -> Result<Memory, CudaError> {
        let bytes = (len * size_of::<T>()).max(16);
        Ok(Memory { machine: Arc::clone(machine), address: machine.reserve(bytes)?, bytes })
    }

    /// A copy of values.
    ///
    /// # Errors
    /// They do not fit.
    pub fn of<T: Plain>(machine: &Arc<dyn Machine>, values: &[T]) -> Result<Memory, CudaError> {
        let memory = Memory::zeros::<T>(machine, values.len())?;
        memory.write(values)?;
        Ok(memory)
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Overwrites the first values.
    ///
    /// # Errors
    /// The device fails.
    pub fn write<T: Plain>(&self, values: &[T]) -> Result<(), CudaError> {
        self.machine.write(self, 0, bytes_of(values))
    }

    /// The first `len` values.
    ///
    /// # Errors
    /// The device fails.
    pub fn read<T: Plain>(&self, len: usize) -> Result<Vec<T>, CudaError> {
        self.read_at(0, len)
    }

    /// `len` values from value `start` on.
    ///
    /// # Errors
    /// The device fails.
    pub fn read_at<T: Plain>(&self, start: usize, len: usize) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::default(); len];
        self.machine.read(self, start * size_of::<T>(), bytes_of_mut(&mut values))?;
        Ok(values)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.machine.release(self.address);
    }
}

/// The bytes of plain values.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: plain values are bytes without padding; the length is theirs.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    let len = size_of_val(values);
    // SAFETY: as above, and any bytes are a value.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), len) }
}

/// A GPU's main stream.
pub struct Gpu {
    device: Device,
    kernels: Mutex<HashMap<&'static str, Kernel>>,
    memory: Mutex<HashMap<u64, DeviceBuffer<u8>>>,
}

impl Gpu {
    /// The machine of a device. Starts to compile its kernels, beside what the caller does next.
    pub fn new(device: &Device) -> Arc<Gpu> {
        for source in &SOURCES {
            let device = device.clone();
            // A failure comes again, and is reported, where the kernel is launched.
            std::thread::spawn(move || device.load(source).map(drop));
        }
        Arc::new(Gpu { device: device.clone(), kernels: Mutex::default(), memory: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn kernel(&self, source: &'static Source, name: &'static str) -> Result<Kernel, CudaError> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(name) {
            return Ok(kernel.clone());
        }
        let kernel = self.device.load(source)?.kernel(name)?;
        kernels.insert(name, kernel.clone());
        Ok(kernel)
    }
}

impl Machine for Gpu {
    fn reserve(&self, bytes: usize) -> Result<u64, CudaError> {
        let buffer = DeviceBuffer::zeros(&self.device, bytes)?;
        let address = buffer.address();
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).insert(address, buffer);
        Ok(address)
    }

    fn release(&self, address: u64) {
        let buffer = self.memory.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
        drop(buffer);
    }

    fn write(&self, memory: &Memory, start: usize, bytes: &[u8]) -> Result<(), CudaError> {
        let mut buffers = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffers.get_mut(&memory.address).expect("memory is reserved as long as it lives");
        buffer.upload_from(start, bytes)
    }

    fn read(&self, memory: &Memory, start: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        let buffers = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        buffers[&memory.address].download_into(start, bytes)
    }

    unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        arguments: &[Value],
    ) -> Result<(), CudaError> {
        let kernel = self.kernel(source, kernel)?;
        let arguments: Vec<Argument<'_>> = arguments
            .iter()
            .map(|value| match value {
                Value::Long(v) => Argument::from(v),
                Value::Int(v) => Argument::from(v),
                Value::Unsigned(v) => Argument::from(v),
                Value::Float(v) => Argument::from(v),
            })
            .collect();
        // SAFETY: the caller's promise.
        unsafe { kernel.launch(&self.device.stream(), [grid[0], grid[1], 1], [threads, 1, 1], 0, &arguments) }
    }
}
