//! What can go wrong on the way to the GPU and on it.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// A CUDA call, library or kernel that failed.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// A library cannot be opened.
    #[error("{library} was not found; {remedy}")]
    Missing {
        /// What was looked for.
        library: &'static str,
        /// How to get it.
        remedy: &'static str,
    },
    /// There is no such GPU.
    #[error("there is no GPU number {ordinal}; the driver shows {count}")]
    NoDevice {
        /// The number asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU is too old.
    #[error("{name} has compute capability {major}.{minor}; the kernels need 8.0 or later")]
    TooOld {
        /// The GPU's name.
        name: String,
        /// Compute capability, first number.
        major: i32,
        /// Compute capability, second number.
        minor: i32,
    },
    /// The GPU's memory does not suffice.
    #[error(
        "{wanted} MiB more do not fit in the GPU's memory ({free} MiB of {total} MiB are free); a smaller batch= or imgsz= needs less"
    )]
    OutOfMemory {
        /// Size of the allocation that failed.
        wanted: usize,
        /// Memory that was free.
        free: usize,
        /// All the memory there is.
        total: usize,
    },
    /// A tensor is longer than the kernels' 32-bit places.
    #[error(
        "the batch makes a tensor of {elements} elements, and the GPU's kernels reach 2147483647; a smaller batch= makes shorter ones"
    )]
    TooLong {
        /// The tensor's length.
        elements: usize,
    },
    /// The driver refused.
    #[error("CUDA: {call} failed: {message}")]
    Driver {
        /// What was asked of the driver.
        call: &'static str,
        /// The driver's answer.
        message: String,
    },
    /// A kernel does not compile.
    #[error("NVRTC: {source_name} does not compile: {log}")]
    Compile {
        /// The source's name.
        source_name: &'static str,
        /// The compiler's messages.
        log: String,
    },
    /// A kernel is not in its module.
    #[error("the module {module} has no kernel {kernel}")]
    NoKernel {
        /// The source's name.
        module: &'static str,
        /// The kernel's name.
        kernel: String,
    },
    /// The plan asks for what this device has no kernel for.
    #[error("the GPU has no kernel for {0}")]
    Unsupported(String),
}

/// Names the call in a driver's answer.
pub(crate) trait Calling<T> {
    fn calling(self, call: &'static str) -> Result<T, CudaError>;
}

impl<T> Calling<T> for Result<T, DriverError> {
    fn calling(self, call: &'static str) -> Result<T, CudaError> {
        self.map_err(|error| CudaError::Driver { call, message: describe(&error) })
    }
}

impl Calling<()> for CUresult {
    fn calling(self, call: &'static str) -> Result<(), CudaError> {
        self.result().calling(call)
    }
}

fn describe(error: &DriverError) -> String {
    let text = |part: Result<&std::ffi::CStr, DriverError>| {
        part.map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
    };
    format!("{} ({})", text(error.error_string()), text(error.error_name()))
}
