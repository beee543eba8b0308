//! The kernels of a device by name, looked up once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::sources::{
    CONV, CONV_TF32, DEPTHWISE, ELEMENTWISE, MATMUL, NORM, PREPARE, SIMPLE, WEIGHT_GRAD, WEIGHT_GRAD_TF32,
};
use super::{CudaError, Device, Kernel, Precision, Source};

/// Kernels by name.
pub(crate) struct Kernels {
    device: Device,
    known: Mutex<HashMap<String, Kernel>>,
}

impl Kernels {
    /// Compiles and loads the sources that a plan of this precision needs, in parallel.
    pub fn new(device: &Device, precision: Precision) -> Result<Arc<Kernels>, CudaError> {
        let mut sources: Vec<&'static Source> = vec![&DEPTHWISE, &NORM, &ELEMENTWISE, &MATMUL, &PREPARE];
        sources.extend([&WEIGHT_GRAD, &SIMPLE]);
        match precision {
            Precision::Bf16 => sources.push(&CONV),
            Precision::Tf32 => sources.extend([&CONV_TF32, &WEIGHT_GRAD_TF32]),
            Precision::Float32 => {}
        }
        std::thread::scope(|scope| {
            let loads: Vec<_> =
                sources.iter().map(|source| scope.spawn(|| device.load(source).map(|_| ()))).collect();
            loads.into_iter().try_for_each(|load| load.join().expect("loading does not panic"))
        })?;
        Ok(Arc::new(Kernels { device: device.clone(), known: Mutex::default() }))
    }

    /// A kernel of a source.
    pub fn get(&self, source: &'static Source, name: &str) -> Result<Kernel, CudaError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = known().get(name) {
            return Ok(kernel.clone());
        }
        let kernel = self.device.load(source)?.kernel(name)?;
        known().insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }
}
