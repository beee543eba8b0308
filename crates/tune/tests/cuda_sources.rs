//! Every CUDA kernel of training compiles, on a machine without a GPU. NVRTC comes with the PyPI package
//! nvidia-cuda-nvrtc.

use onsa_compute::cuda::libraries::Library;
use onsa_compute::cuda::{Arch, compile};

#[test]
fn every_kernel_compiles_and_none_spills() {
    if let Err(error) = Library::Nvrtc.find() {
        assert!(std::env::var_os("CI").is_none(), "{error}");
        eprintln!("skipped: {error}");
        return;
    }
    for arch in [Arch::OLDEST, Arch::HOPPER] {
        for source in &onsa_tune::gpu::SOURCES {
            let compiled = compile(source, arch).unwrap_or_else(|error| panic!("{arch:?}: {error}"));
            let report = compiled.report();
            assert!(!report.is_empty(), "{}: {}", source.name, compiled.log);
            for kernel in report {
                println!("{arch:?} {} {kernel:?}", source.name);
                assert_eq!(kernel.spilled, 0, "{arch:?} {} {}", source.name, kernel.kernel);
            }
        }
    }
}
