//! Which classes and functions a pickle may name, and which it may appear to call.
//!
//! Nothing is ever imported or called. The lists exist because a file that names `os.system` is an attack on whoever
//! opens it with Python, and because an object whose class is unknown has no meaning here.

/// Packages whose classes may stand in a model: they describe it, and are kept as inert objects.
const MODEL_PACKAGES: [&str; 4] = ["torch", "torchvision", "ultralytics", "models"];

/// Names with a meaning outside those packages.
const KNOWN: [(&str, &[&str]); 16] = [
    (
        "builtins",
        &[
            "set",
            "frozenset",
            "dict",
            "list",
            "tuple",
            "int",
            "float",
            "complex",
            "bool",
            "str",
            "bytes",
            "bytearray",
            "slice",
            "range",
            "object",
            "unicode",
            "long",
            "xrange",
        ],
    ),
    ("collections", &["OrderedDict", "defaultdict", "deque", "Counter"]),
    ("_codecs", &["encode"]),
    ("copyreg", &["_reconstructor"]),
    ("datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("pathlib", PATHS),
    ("pathlib._local", PATHS),
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("numpy", NUMPY_TYPES),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core.numerictypes", NUMPY_TYPES),
    ("numpy._core.numerictypes", NUMPY_TYPES),
];

const PATHS: &[&str] = &["Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath"];

const NUMPY_TYPES: &[&str] = &[
    "dtype", "ndarray", "generic", "number", "bool_", "bool", "float16", "float32", "float64", "int8",
    "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "str_", "bytes_",
];

/// Functions and lower-case types of PyTorch that a pickle may call.
const TORCH_CALLS: [(&str, &str); 17] = [
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_parameter_with_state"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_nested_tensor"),
    ("torch._utils", "_rebuild_wrapper_subclass"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch.tensor", "_rebuild_from_type_v2"),
    ("torch.serialization", "_get_layout"),
    ("torch", "device"),
    ("torch", "dtype"),
];

const OUTSIDE: &str = "is none of the classes that a vision model is made of";
const DANGEROUS: &str = "can run commands or code on the machine that loads it with Python";
const NO_CLASS: &str = "is a function, not a class of a model";
const MALFORMED: &str = "is not a plain name";

/// Python 2's module names stand in pickles of protocol 2 and below.
pub fn canonical(module: &str) -> &str {
    match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        other => other,
    }
}

/// Whether a pickle may name this at all.
pub fn check_name(module: &str, name: &str) -> Result<(), &'static str> {
    if !dotted(module) || !dotted(name) {
        return Err(MALFORMED);
    }
    if known(module, name) {
        return Ok(());
    }
    if in_model_package(module) {
        // A dotted name walks through attributes: torch.serialization's `os.system` is os.system. Only nested classes may.
        return if !name.contains('.') || class_like(name) { Ok(()) } else { Err(DANGEROUS) };
    }
    if module == "numpy.dtypes" && class_like(name) {
        return Ok(());
    }
    Err(if dangerous(module) { DANGEROUS } else { OUTSIDE })
}

/// Whether a pickle may appear to call this.
pub fn check_call(module: &str, name: &str) -> Result<(), &'static str> {
    check_name(module, name)?;
    if in_model_package(module) && !class_like(name) && !TORCH_CALLS.contains(&(module, name)) {
        return Err(NO_CLASS);
    }
    Ok(())
}

fn known(module: &str, name: &str) -> bool {
    KNOWN.iter().any(|(m, names)| *m == module && names.contains(&name))
}

fn in_model_package(module: &str) -> bool {
    let package = module.split('.').next().unwrap_or(module);
    MODEL_PACKAGES.contains(&package)
}

fn dotted(text: &str) -> bool {
    text.split('.').all(|part| {
        let mut bytes = part.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

/// Classes of these packages begin with a capital (after underscores), functions and modules do not.
fn class_like(name: &str) -> bool {
    name.split('.').all(|part| part.trim_start_matches('_').starts_with(|c: char| c.is_ascii_uppercase()))
}

fn dangerous(module: &str) -> bool {
    const MODULES: [&str; 34] = [
        "asyncio",
        "bdb",
        "builtins",
        "cProfile",
        "code",
        "codeop",
        "commands",
        "ctypes",
        "dill",
        "doctest",
        "functools",
        "http",
        "importlib",
        "imp",
        "marshal",
        "multiprocessing",
        "nt",
        "operator",
        "os",
        "pdb",
        "pickle",
        "pip",
        "platform",
        "posix",
        "profile",
        "pty",
        "runpy",
        "shutil",
        "socket",
        "subprocess",
        "sys",
        "timeit",
        "urllib",
        "webbrowser",
    ];
    MODULES.contains(&module.split('.').next().unwrap_or(module))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_model_pass() {
        for (m, n) in [
            ("torch", "FloatStorage"),
            ("torch", "float32"),
            ("torch", "Size"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("ultralytics.nn.tasks", "DetectionModel"),
            ("models.yolo", "Model"),
            ("collections", "OrderedDict"),
            ("builtins", "set"),
            ("pathlib", "PosixPath"),
            ("numpy.core.multiarray", "scalar"),
        ] {
            assert_eq!(check_name(m, n), Ok(()), "{m}.{n}");
        }
        for (m, n) in [("torch", "device"), ("ultralytics.nn.modules.block", "C2f"), ("_codecs", "encode")] {
            assert_eq!(check_call(m, n), Ok(()), "{m}.{n}");
        }
    }

    #[test]
    fn names_that_reach_code_do_not_pass() {
        for (m, n) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("subprocess", "Popen"),
            ("torch.serialization", "os.system"),
            ("torchx", "Conv"),
            ("numpy.testing", "run"),
            ("torch.nn modules", "Conv2d"),
            ("", "system"),
            ("torch", ""),
        ] {
            assert!(check_name(m, n).is_err(), "{m}.{n}");
        }
        for (m, n) in [
            ("torch.hub", "load"),
            ("torch.storage", "_load_from_bytes"),
            ("torch.serialization", "load"),
            ("torch.utils.cpp_extension", "load_inline"),
            ("ultralytics.utils.checks", "check_requirements"),
            ("models.common", "download"),
        ] {
            assert_eq!(check_call(m, n), Err(NO_CLASS), "{m}.{n}");
        }
    }
}
