//! Points in a stream's order: to time, and to make another stream wait.

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUevent_flags};

use super::error::Calling;
use super::{CudaError, Device, Stream};

/// A point in a stream's order.
pub struct Event {
    raw: sys::CUevent,
    device: Device,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// An event that holds a time too.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn new(device: &Device) -> Result<Event, CudaError> {
        device.bind()?;
        let raw = result::event::create(CUevent_flags::CU_EVENT_DEFAULT).calling("cuEventCreate")?;
        Ok(Event { raw, device: device.clone() })
    }

    /// Marks the point that the stream has come to.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn record(&self, stream: &Stream) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: event and stream are alive and of one device.
        unsafe { result::event::record(self.raw, stream.raw()) }.calling("cuEventRecord")
    }

    /// Makes later work of `stream` wait for the point.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn wait(&self, stream: &Stream) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: as above.
        unsafe {
            result::stream::wait_event(stream.raw(), self.raw, sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT)
        }
        .calling("cuStreamWaitEvent")
    }

    /// Waits until the point is reached.
    ///
    /// # Errors
    /// A kernel before it failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.device.bind()?;
        // SAFETY: the event is alive.
        unsafe { result::event::synchronize(self.raw) }.calling("cuEventSynchronize")
    }

    /// Milliseconds from `self` to `end`, both recorded and reached.
    ///
    /// # Errors
    /// One of them is not reached.
    pub fn milliseconds_to(&self, end: &Event) -> Result<f32, CudaError> {
        self.device.bind()?;
        // SAFETY: both events are alive.
        unsafe { result::event::elapsed(self.raw, end.raw) }.calling("cuEventElapsedTime")
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.device.bind().is_ok() {
            // SAFETY: made by `new`, destroyed once.
            let _ = unsafe { result::event::destroy(self.raw) };
        }
    }
}
