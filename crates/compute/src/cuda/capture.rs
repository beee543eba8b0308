//! Capture of a stream's work, and its replay with one call.

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::error::Calling;
use super::{CudaError, Stream};

/// Recorded work of a stream.
pub struct CudaGraph {
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    stream: Stream,
}

// SAFETY: replayed through `&mut self` only, so never by two threads at once.
unsafe impl Send for CudaGraph {}

impl CudaGraph {
    /// Records what `work` asks of the stream (and of streams that it joins by events) instead of doing it. `work` must not
    /// allocate, free, wait, or copy from memory that is not pinned; buffers that it names must outlive the graph. Other threads
    /// that allocate or free wait until it has ended.
    ///
    /// # Errors
    /// Those of `work`; the driver's.
    pub fn capture<E: From<CudaError>>(
        stream: &Stream,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<CudaGraph, E> {
        stream.device().bind()?;
        // SAFETY: the stream is alive; a capture that `work` fails in is ended too, and thrown away.
        stream.device().between_captures(|| unsafe {
            result::stream::begin_capture(
                stream.raw(),
                CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
            )
            .calling("cuStreamBeginCapture")?;
            let worked = work();
            let ended = result::stream::end_capture(stream.raw()).calling("cuStreamEndCapture");
            let graph = match (worked, ended) {
                (Err(error), ended) => {
                    if let Ok(graph) = ended {
                        let _ = result::graph::destroy(graph);
                    }
                    return Err(error);
                }
                (Ok(()), ended) => ended?,
            };
            let executable = match result::graph::instantiate(graph, CUgraphInstantiate_flags(0))
                .calling("cuGraphInstantiate")
            {
                Ok(executable) => executable,
                Err(error) => {
                    let _ = result::graph::destroy(graph);
                    return Err(error.into());
                }
            };
            Ok(CudaGraph { graph, executable, stream: stream.clone() })
        })
    }

    /// Does the recorded work, in the stream's order.
    ///
    /// # Errors
    /// The driver fails.
    pub fn replay(&mut self) -> Result<(), CudaError> {
        self.stream.device().bind()?;
        // SAFETY: both are alive.
        unsafe { result::graph::launch(self.executable, self.stream.raw()) }.calling("cuGraphLaunch")
    }

    /// The number of kernels, copies and fills recorded.
    ///
    /// # Errors
    /// The driver fails.
    pub fn nodes(&self) -> Result<usize, CudaError> {
        self.stream.device().bind()?;
        let mut count = 0;
        // SAFETY: a null list asks for the count alone.
        unsafe { sys::cuGraphGetNodes(self.graph, std::ptr::null_mut(), &mut count) }
            .calling("cuGraphGetNodes")?;
        Ok(count)
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        if self.stream.device().bind().is_ok() {
            // SAFETY: made by `capture`, destroyed once, after the stream has come to rest.
            unsafe {
                let _ = result::stream::synchronize(self.stream.raw());
                let _ = result::graph::exec_destroy(self.executable);
                let _ = result::graph::destroy(self.graph);
            }
        }
    }
}
