//! One copy of a kernel an instruction set.

/// Makes `$name(isa, args…)` of a kernel `$body::<S>(args…)` that is generic over [`Simd`]; of `$name[T](…)` likewise
/// `$body::<S, T>(args…)`, generic over the stored [`Element`] too.
macro_rules! dispatch {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers must be valid for what the kernel's arguments say; `isa` must be one that this processor has.
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name(isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx2>($($arg),*) }
            }
            // SAFETY: the caller's promise.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx2 => avx2($($arg),*),
                    _ => $body::<$crate::cpu::simd::Portable>($($arg),*),
                }
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident[$t:ident]($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers must be valid for what the kernel's arguments say; `isa` must be one that this processor has, and
        /// for bfloat16 one that [`Isa::for_storage`]($crate::cpu::Isa::for_storage) gave.
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name<$t: $crate::cpu::element::Element>(isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512, $t>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512_bf16<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512, $t>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx2, $t>($($arg),*) }
            }
            // SAFETY: the caller's promise.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx if $t::GROUP == 2 => {
                        avx512_bf16::<$t>($($arg),*)
                    }
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx => avx512::<$t>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx2 => avx2::<$t>($($arg),*),
                    _ => $body::<$crate::cpu::simd::Portable, $t>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;
