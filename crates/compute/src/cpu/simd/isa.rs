//! Which instruction sets there are, and which are used.

use super::super::element::Storage;

/// The instruction set that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 with AMX's tile registers for products of bfloat16; what [`Isa::Avx512`] becomes for tensors of it.
    Amx,
    /// 16 lanes.
    Avx512,
    /// 8 lanes with fused multiply-add.
    Avx2,
    /// What the compiler makes of plain Rust.
    Portable,
}

impl Isa {
    /// The best that this processor has; the environment variable `ONSA_SIMD` (`avx512`, `avx2`, `portable`) asks for
    /// less.
    pub fn detect() -> Isa {
        let wanted = std::env::var("ONSA_SIMD").unwrap_or_default();
        Isa::available()
            .into_iter()
            .find(|isa| wanted.is_empty() || isa.name() == wanted)
            .unwrap_or(Isa::Portable)
    }

    /// All that this processor has, the best first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }

    /// Whether this processor takes less time to multiply bfloat16 than float32: with AMX, or AVX-512's instructions where
    /// they run at twice the rate of float32's. On Intel's processors they run at the same or half of it.
    pub(crate) fn bf16_is_fast() -> bool {
        match Isa::detect().for_storage(Storage::Bf16) {
            Isa::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let name = std::arch::x86_64::__cpuid(0);
                [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
            }
            _ => false,
        }
    }

    /// What kernels of tensors in `storage` run with: those of AVX-512 for bfloat16 use its BF16 instructions, so a
    /// processor without them runs AVX2's.
    pub(crate) fn for_storage(self, storage: Storage) -> Isa {
        if self != Isa::Avx512 || storage == Storage::Float32 {
            return self;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if !is_x86_feature_detected!("avx512bf16") {
                return Isa::available().into_iter().find(|&isa| isa != self).unwrap_or(Isa::Portable);
            }
            // By name, AVX-512 alone can be asked for.
            let named = std::env::var_os("ONSA_SIMD").is_some_and(|name| !name.is_empty());
            if !named && super::super::amx::available() {
                return Isa::Amx;
            }
        }
        self
    }

    /// Lower-case name, as in `ONSA_SIMD`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Amx => "amx",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }
}
