//! Reading peaks at no more than twice the file's size and 64 MiB, for sound and for hostile files. One test, so that nothing else
//! in this process allocates meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::Path;

use onsa_intake::checkpoint::{Meta, Tensor, read, write_safetensors_to};

/// A field of /proc/self/status, bytes.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Resident bytes that `read` adds at its peak.
fn peak(path: &Path) -> (u64, bool) {
    // 5 resets the peak to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let ok = read(path).is_ok();
    (status("VmHWM:").saturating_sub(before), ok)
}

fn zip(path: &Path, entries: &[(&str, &[u8])], method: zip::CompressionMethod) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in entries {
        zip.start_file(format!("a/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// {"w": a transposed tensor of `n` float32 in storage 0}
fn state(n: u32) -> Vec<u8> {
    let mut p = b"\x80\x02}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ".to_vec();
    p.extend(n.to_le_bytes());
    p.extend(b"tQK\x00");
    for pair in [[n / 2, 2], [1, n / 2]] {
        for v in pair {
            p.push(b'J');
            p.extend(v.to_le_bytes());
        }
        p.push(0x86);
    }
    p.extend(b"\x89NtRs.");
    p
}

fn varint(mut v: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while v > 0x7f {
        out.push((v & 0x7f) as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
    out
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len()), bytes.to_vec()].concat()
}

#[test]
fn the_peak_follows_the_files_size() {
    const MIB: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // 96 MiB: at three times its size a reader would stand out.
    let n = 24u32 << 20;
    {
        let data = [1, 2, 3, 62].repeat(n as usize);
        zip(
            &at("transposed.pt"),
            &[("data.pkl", &state(n)), ("data/0", &data)],
            zip::CompressionMethod::Stored,
        );
        let raw = [vec![0x08], varint(n as usize), vec![0x10, 1, 0x42, 1, b'w'], field(9, &data)].concat();
        std::fs::write(at("model.onnx"), [vec![0x08, 8], field(7, &field(5, &raw))].concat()).unwrap();
        let tensor = Tensor {
            name: "w".into(),
            dtype: onsa_intake::checkpoint::Dtype::Float32,
            shape: vec![n as usize],
            data,
        };
        let mut file = std::fs::File::create(at("model.safetensors")).unwrap();
        write_safetensors_to(&mut file, &[tensor], &Meta::default()).unwrap();
    }
    let zeros = vec![0; 1 << 30];
    zip(
        &at("bomb-storage.pt"),
        &[("data.pkl", &state(1 << 28)), ("data/0", &zeros)],
        zip::CompressionMethod::Deflated,
    );
    drop(zeros);
    let pickle = |ops: &[u8], n: usize| [&b"\x80\x02"[..], &ops.repeat(n), b"."].concat();
    let text = [&b"X\x00\x00\x10\x00"[..], &[b'a'; 1 << 20], b"0"].concat();
    for (name, ops) in [
        ("objects.pt", pickle(b"]0", 3_000_000)),
        ("stack.pt", pickle(b"N", 3_000_000)),
        ("texts.pt", pickle(&text, 200)),
        (
            "tuple.pt",
            [&b"\x80\x02]q\x00"[..], &[&b"("[..], &b"N".repeat(60_000), b"e"].concat().repeat(60), b"."]
                .concat(),
        ),
    ] {
        zip(&at(name), &[("data.pkl", &ops)], zip::CompressionMethod::Deflated);
    }
    // Two million empty nodes.
    std::fs::write(at("nodes.onnx"), [vec![0x08, 8], field(7, &[0x0a, 0].repeat(2_000_000))].concat())
        .unwrap();
    // Zero-filled integers: a byte on the wire, eight in memory.
    let dense =
        [vec![0x08], varint(20_000_000), vec![0x10, 7, 0x42, 1, b'w'], field(7, &vec![0; 20_000_000])]
            .concat();
    std::fs::write(at("integers.onnx"), [vec![0x08, 8], field(7, &field(5, &dense))].concat()).unwrap();
    // A directory of 400,000 entries.
    let mut directory = b"PK\x03\x04".to_vec();
    let header = [&b"PK\x01\x02"[..], &[0; 24], &[1, 0], &[0; 16], b"x"].concat();
    let start = directory.len() as u32;
    (0..400_000).for_each(|_| directory.extend(&header));
    let size = directory.len() as u32 - start;
    directory.extend(
        [&b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff"[..], &size.to_le_bytes(), &start.to_le_bytes(), &[0, 0]]
            .concat(),
    );
    std::fs::write(at("directory.pt"), directory).unwrap();

    for (name, sound) in [
        ("transposed.pt", true),
        ("model.onnx", true),
        ("model.safetensors", true),
        ("bomb-storage.pt", false),
        ("objects.pt", false),
        ("stack.pt", false),
        ("texts.pt", false),
        ("tuple.pt", false),
        ("nodes.onnx", false),
        ("integers.onnx", false),
        ("directory.pt", false),
    ] {
        let path = at(name);
        let bytes = std::fs::metadata(&path).unwrap().len();
        let (peak, ok) = peak(&path);
        eprintln!("{name}: {} MiB file, {} MiB peak", bytes / MIB, peak / MIB);
        assert_eq!(ok, sound, "{name}");
        assert!(peak <= 2 * bytes + 64 * MIB, "{name}: {bytes} bytes, peak {peak}");
    }
}
