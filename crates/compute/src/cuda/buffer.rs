//! Memory: on the device, and pinned on the host.

use std::marker::PhantomData;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdeviceptr};

use super::error::Calling;
use super::{CudaError, Device, Stream};

/// Types whose values are plain bytes: any bytes are a value.
///
/// # Safety
/// No padding, no invalid bit pattern, no pointer.
pub unsafe trait Plain: Copy + Default + Send + Sync + 'static {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: a number without padding.
        unsafe impl Plain for $t {}
    )* };
}
plain!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64);

/// Elements in the device's memory, zero at first.
pub struct DeviceBuffer<T> {
    device: Device,
    pointer: CUdeviceptr,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Plain> DeviceBuffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// They do not fit.
    pub fn zeros(device: &Device, len: usize) -> Result<DeviceBuffer<T>, CudaError> {
        device.bind()?;
        let bytes = (len * size_of::<T>()).max(16);
        // SAFETY: a fresh allocation, filled whole.
        device.between_captures(|| unsafe {
            let pointer = result::malloc_sync(bytes).map_err(|error| out_of_memory(device, bytes, error))?;
            result::memset_d8_sync(pointer, 0, bytes).calling("cuMemsetD8")?;
            // The fill runs on the driver's own stream, which the device's do not wait for: without this wait a copy that
            // comes next could be overwritten by it.
            result::stream::synchronize(std::ptr::null_mut()).calling("cuStreamSynchronize")?;
            Ok(DeviceBuffer { device: device.clone(), pointer, len, kind: PhantomData })
        })
    }

    /// A copy of host values.
    ///
    /// # Errors
    /// They do not fit.
    pub fn from_slice(device: &Device, values: &[T]) -> Result<DeviceBuffer<T>, CudaError> {
        let mut buffer = DeviceBuffer::zeros(device, values.len())?;
        buffer.upload(values)?;
        Ok(buffer)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first element, on the device.
    pub fn address(&self) -> u64 {
        self.pointer
    }

    /// Address of element `index`, on the device.
    ///
    /// # Panics
    /// If it lies behind the end.
    pub fn address_of(&self, index: usize) -> u64 {
        assert!(index <= self.len, "element {index} of {}", self.len);
        self.pointer + (index * size_of::<T>()) as u64
    }

    /// Copies host values in, after all work of the device's stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn upload(&mut self, values: &[T]) -> Result<(), CudaError> {
        assert_eq!(values.len(), self.len, "upload takes as many elements as the buffer has");
        self.upload_from(0, values)
    }

    /// The same, to elements from `start` on.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the buffer has not as many.
    pub fn upload_from(&mut self, start: usize, values: &[T]) -> Result<(), CudaError> {
        assert!(start + values.len() <= self.len, "the buffer ends before");
        if values.is_empty() {
            return Ok(());
        }
        let stream = self.device.stream();
        self.device.bind()?;
        let to = self.address_of(start);
        // SAFETY: the range lies in the buffer; the wait keeps `values` until it is read.
        unsafe { result::memcpy_htod_async(to, values, stream.raw()) }.calling("cuMemcpyHtoD")?;
        stream.synchronize()
    }

    /// Copies all elements out, after all work of the device's stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    pub fn download(&self) -> Result<Vec<T>, CudaError> {
        let mut values = vec![T::default(); self.len];
        self.download_into(0, &mut values)?;
        Ok(values)
    }

    /// Copies elements from `start` on out, after all work of the device's stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the buffer has not as many.
    pub fn download_into(&self, start: usize, values: &mut [T]) -> Result<(), CudaError> {
        assert!(start + values.len() <= self.len, "the buffer ends before");
        let stream = self.device.stream();
        self.device.bind()?;
        let from = self.address_of(start);
        // SAFETY: the range lies in the buffer; the wait keeps `values` until it is written.
        unsafe { result::memcpy_dtoh_async(values, from, stream.raw()) }.calling("cuMemcpyDtoH")?;
        stream.synchronize()
    }

    /// Copies pinned values to elements from `start` on, in the stream's order, without waiting.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the buffer has not as many.
    pub fn upload_async(
        &mut self,
        start: usize,
        values: &PinnedBuffer<T>,
        count: usize,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        assert!(start + count <= self.len && count <= values.len(), "the buffers end before");
        self.device.bind()?;
        let to = self.address_of(start);
        // SAFETY: the ranges lie in the buffers. A pinned buffer waits for its device before it is freed.
        unsafe { result::memcpy_htod_async(to, &values.as_slice()[..count], stream.raw()) }
            .calling("cuMemcpyHtoD")
    }

    /// As [`DeviceBuffer::upload_async`], of the pinned values from `from` on. Several owners of one buffer may bring parts of
    /// it; the streams' order says what is read.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If one of the buffers has not as many.
    pub fn upload_part(
        &self,
        start: usize,
        values: &PinnedBuffer<T>,
        from: usize,
        count: usize,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        assert!(start + count <= self.len && from + count <= values.len(), "the buffers end before");
        self.device.bind()?;
        let to = self.address_of(start);
        // SAFETY: as in `upload_async`.
        unsafe { result::memcpy_htod_async(to, &values.as_slice()[from..from + count], stream.raw()) }
            .calling("cuMemcpyHtoD")
    }

    /// Copies elements from `start` on to pinned memory, in the stream's order, without waiting.
    ///
    /// # Errors
    /// The driver fails.
    ///
    /// # Panics
    /// If the buffer has not as many.
    pub fn download_async(
        &self,
        start: usize,
        values: &mut PinnedBuffer<T>,
        count: usize,
        stream: &Stream,
    ) -> Result<(), CudaError> {
        assert!(start + count <= self.len && count <= values.len(), "the buffers end before");
        self.device.bind()?;
        let from = self.address_of(start);
        // SAFETY: as in `upload_async`.
        unsafe { result::memcpy_dtoh_async(&mut values.as_mut_slice()[..count], from, stream.raw()) }
            .calling("cuMemcpyDtoH")
    }

    /// Fills with zero bytes, in the stream's order.
    ///
    /// # Errors
    /// The driver fails.
    pub fn clear(&mut self, stream: &Stream) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the buffer's own bytes.
        unsafe { result::memset_d8_async(self.pointer, 0, self.len * size_of::<T>(), stream.raw()) }
            .calling("cuMemsetD8Async")
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `zeros`, freed once; the driver waits for work in flight.
            let _ = self.device.between_captures(|| unsafe { result::free_sync(self.pointer) });
        }
    }
}

/// Elements in host memory that the GPU reads and writes itself, zero at first.
pub struct PinnedBuffer<T> {
    device: Device,
    pointer: *mut T,
    len: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl<T: Plain> Send for PinnedBuffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for PinnedBuffer<T> {}

impl<T: Plain> PinnedBuffer<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// The system refuses the memory.
    pub fn zeros(device: &Device, len: usize) -> Result<PinnedBuffer<T>, CudaError> {
        device.bind()?;
        let bytes = (len * size_of::<T>()).max(16);
        // SAFETY: a fresh allocation of at least `len` elements, aligned to a page.
        device.between_captures(|| unsafe {
            let pointer = result::malloc_host(bytes, 0).calling("cuMemHostAlloc")?.cast::<T>();
            pointer.cast::<u8>().write_bytes(0, bytes);
            Ok(PinnedBuffer { device: device.clone(), pointer, len })
        })
    }

    /// Address of the first element, which kernels may read and write: every GPU that has this memory's addresses in its own
    /// (all since 2010 do) sees it there.
    pub fn address(&self) -> u64 {
        self.pointer as u64
    }

    /// The elements. Those of a copy in flight are defined once its stream was waited for.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `len` initialised elements.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }

    /// The elements, to write. A copy in flight must have been waited for.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above; one owner.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.len) }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T> Drop for PinnedBuffer<T> {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: allocated by `zeros`, freed once, after the device has come to rest.
            self.device.between_captures(|| unsafe {
                let _ = result::ctx::synchronize();
                let _ = result::free_host(self.pointer.cast());
            });
        }
    }
}

fn out_of_memory(device: &Device, bytes: usize, error: cudarc::driver::DriverError) -> CudaError {
    const MIB: usize = 1 << 20;
    if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        let (free, total) = device.memory().unwrap_or_default();
        return CudaError::OutOfMemory { wanted: bytes.div_ceil(MIB), free: free / MIB, total: total / MIB };
    }
    match Err::<(), _>(error).calling("cuMemAlloc") {
        Err(error) => error,
        Ok(()) => unreachable!("an error stays one"),
    }
}
