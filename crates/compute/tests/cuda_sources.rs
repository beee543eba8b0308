//! Every CUDA kernel compiles, on a machine without a GPU. NVRTC comes with the PyPI package nvidia-cuda-nvrtc.

use onsa_compute::cuda::libraries::{Library, PATH_VARIABLE};
use onsa_compute::cuda::{Arch, SOURCES, Source, compile, compile_all};

/// Bytes of registers that a kernel may keep in memory: a number or two outside its loops.
const SPILLED: u32 = 16;

/// Whether NVRTC is here; in CI it has to be.
fn nvrtc() -> bool {
    match Library::Nvrtc.find() {
        Ok(_) => true,
        Err(error) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error} ({PATH_VARIABLE})");
            false
        }
    }
}

#[test]
fn every_kernel_compiles_and_keeps_its_registers() {
    if !nvrtc() {
        return;
    }
    for arch in [Arch::OLDEST, Arch::HOPPER] {
        for (name, compiled) in compile_all(SOURCES.iter().copied(), arch) {
            let compiled = compiled.unwrap_or_else(|error| panic!("{arch:?}: {error}"));
            let report = compiled.report();
            assert!(!report.is_empty(), "{name}: the compiler reports its kernels: {}", compiled.log);
            for kernel in report {
                println!("{arch:?} {name} {kernel:?}");
                assert!(kernel.spilled <= SPILLED, "{arch:?} {name} {kernel:?}");
            }
        }
    }
}

#[test]
fn a_broken_kernel_is_an_error_that_names_its_line() {
    if !nvrtc() {
        return;
    }
    let broken = Source { name: "broken", text: "extern \"C\" __global__ void f() {\n  nonsense;\n}\n" };
    let error = compile(&broken, Arch::OLDEST).err().expect("nonsense does not compile").to_string();
    assert!(error.contains("broken.cu(2)"), "{error}");
}
