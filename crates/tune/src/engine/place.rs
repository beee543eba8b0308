//! Where to compute: the words of `device=`.

use std::sync::Arc;

use onsa_compute::Storage;
use onsa_compute::cuda::{CudaError, Device, Precision};

/// Where networks run.
#[derive(Clone)]
pub enum Place {
    /// On the processor, with these threads; training stores tensors so, all else in float32.
    Cpu(Arc<rayon::ThreadPool>, Storage),
    /// On a GPU; the threads do what stays on the host.
    Gpu(Device, Precision, Arc<rayon::ThreadPool>),
}

/// What a person asks for with `device=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A GPU where one can be used, else the processor.
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of that number.
    Gpu(usize),
}

/// A device that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The words mean nothing.
    #[error("device={0} is none of auto, cpu, cuda, cuda:N and N")]
    Words(String),
    /// Several GPUs.
    #[error("device={0} names several GPUs; this version trains on one")]
    Several(String),
    /// The GPU cannot be used.
    #[error("device=cuda: {0}")]
    Cuda(#[from] CudaError),
}

impl Wanted {
    /// Reads `auto`, `cpu`, `cuda`, `cuda:N` or `N`; nothing means `auto`.
    ///
    /// # Errors
    /// Other words.
    pub fn parse(words: Option<&str>) -> Result<Wanted, PlaceError> {
        let words = words.unwrap_or("auto").trim();
        match words.to_ascii_lowercase().as_str() {
            "" | "auto" => return Ok(Wanted::Auto),
            "cpu" => return Ok(Wanted::Cpu),
            "cuda" | "gpu" => return Ok(Wanted::Gpu(0)),
            _ => {}
        }
        let number = words.strip_prefix("cuda:").unwrap_or(words);
        if number.contains(',') {
            return Err(PlaceError::Several(words.to_owned()));
        }
        number.parse().map(Wanted::Gpu).map_err(|_| PlaceError::Words(words.to_owned()))
    }
}

impl Place {
    /// Takes the wanted device into use. `precision`: what a GPU computes in; with bfloat16 a processor that has instructions for
    /// it trains in it too, else in float32.
    ///
    /// # Errors
    /// A GPU that was asked for by name cannot be used.
    pub fn open(
        wanted: Wanted,
        precision: Precision,
        pool: Arc<rayon::ThreadPool>,
    ) -> Result<Place, PlaceError> {
        let fast = precision == Precision::Bf16 && Storage::bf16_is_fast();
        let storage = if fast { Storage::Bf16 } else { Storage::Float32 };
        match wanted {
            Wanted::Cpu => Ok(Place::Cpu(pool, storage)),
            Wanted::Gpu(number) => Ok(Place::Gpu(Device::open(number)?, precision, pool)),
            Wanted::Auto => Ok(match Device::open(0) {
                Ok(device) => Place::Gpu(device, precision, pool),
                Err(_) => Place::Cpu(pool, storage),
            }),
        }
    }

    /// The host's threads.
    pub fn pool(&self) -> &Arc<rayon::ThreadPool> {
        match self {
            Place::Cpu(pool, _) | Place::Gpu(_, _, pool) => pool,
        }
    }

    /// What training stores tensors in on the processor; on a GPU its own precision counts.
    pub fn storage(&self) -> Storage {
        match self {
            Place::Cpu(_, storage) => *storage,
            Place::Gpu(..) => Storage::Float32,
        }
    }

    /// What provenance says of it: `cpu` and what training stores tensors in, or the GPU's number, name and element type.
    pub fn describe(&self) -> String {
        match self {
            Place::Cpu(_, Storage::Float32) => "cpu (float32)".to_owned(),
            Place::Cpu(_, Storage::Bf16) => "cpu (bfloat16)".to_owned(),
            Place::Gpu(device, precision, _) => {
                let kind = match precision {
                    Precision::Bf16 => "bfloat16",
                    Precision::Float32 => "float32",
                    Precision::Tf32 => "float32, products in TF32",
                };
                format!("cuda:{} ({}, {kind})", device.info().ordinal, device.info().name)
            }
        }
    }
}

impl From<Arc<rayon::ThreadPool>> for Place {
    fn from(pool: Arc<rayon::ThreadPool>) -> Place {
        Place::Cpu(pool, Storage::Float32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_that_people_type() {
        for (words, wanted) in [
            (None, Wanted::Auto),
            (Some("auto"), Wanted::Auto),
            (Some("CPU"), Wanted::Cpu),
            (Some("cuda"), Wanted::Gpu(0)),
            (Some("cuda:1"), Wanted::Gpu(1)),
            (Some("0"), Wanted::Gpu(0)),
        ] {
            assert_eq!(Wanted::parse(words).expect("it means something"), wanted, "{words:?}");
        }
        for (words, part) in
            [("tpu", "none of"), ("0,1", "several"), ("cuda:x", "none of"), ("-1", "none of")]
        {
            let error = Wanted::parse(Some(words)).expect_err("it means nothing").to_string();
            assert!(error.contains(part), "{words}: {error}");
        }
    }
}
