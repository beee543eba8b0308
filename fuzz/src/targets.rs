//! What every reader does with any bytes: it reads them or refuses them, and never panics. The fuzz targets, the mutation
//! runner and the replay of the corpus all call these. Each returns the refusal's message.
#![allow(clippy::unwrap_used, reason = "a panic is how a target reports what must not be")]

use std::collections::HashMap;
use std::path::Path;

use onsa_intake::archive::{self, Caps};
use onsa_intake::checkpoint::{self, Meta, write_safetensors};
use onsa_intake::labels::{Labels, coco, voc, yolo};
use onsa_intake::{data_yaml, picture};

/// `Err`: refused, and why.
pub type Verdict = Result<(), String>;

/// A reader under test.
pub type Target = fn(&[u8]) -> Verdict;

/// Every target by the name of its corpus folder.
pub const TARGETS: [(&str, Target); 13] = [
    ("archive", archive),
    ("coco", coco),
    ("data_yaml", data_yaml),
    ("dicom", dicom),
    ("onnx", onnx),
    ("pickle", pickle),
    ("picture", picture),
    ("picture_all", picture_all),
    ("safetensors", safetensors),
    ("torch_legacy", torch_legacy),
    ("torch_zip", torch_zip),
    ("voc", voc),
    ("yolo_labels", yolo_labels),
];

/// Unpacks a zip archive into a folder; nothing may appear outside it, and nothing at all after a refusal.
pub fn archive(data: &[u8]) -> Verdict {
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    let names =
        || -> Vec<_> { std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect() };
    let caps = Caps { entries: 2_000, ..Caps::default() };
    match archive::unpack_from(std::io::Cursor::new(data), &root, &caps) {
        Ok(_) => {
            assert_eq!(names(), ["root"], "something was written outside the folder");
            Ok(())
        }
        Err(error) => {
            assert!(names().is_empty(), "a refused archive left something behind: {:?}", names());
            Err(format!("{error}. {}", error.hint()))
        }
    }
}

/// A model file of any format; what is read must come back from our own safetensors.
fn checkpoint(data: &[u8]) -> Verdict {
    let read = checkpoint::read_bytes(data).map_err(|e| e.to_string())?;
    for tensor in &read.tensors {
        assert_eq!(tensor.data.len(), tensor.elements() * tensor.dtype.size(), "{}", tensor.name);
    }
    let written = write_safetensors(&read.tensors, &Meta::default());
    // Our own names have caps that ONNX and PyTorch files may lie beyond: refused is fine, changed is not.
    if let Ok(again) = written.and_then(|bytes| checkpoint::read_bytes(&bytes)) {
        for tensor in &read.tensors {
            assert_eq!(again.tensor(&tensor.name), Some(tensor), "{}", tensor.name);
        }
    }
    Ok(())
}

/// PyTorch's zip container.
pub fn torch_zip(data: &[u8]) -> Verdict {
    checkpoint(data)
}

/// PyTorch's legacy stream.
pub fn torch_legacy(data: &[u8]) -> Verdict {
    checkpoint(data)
}

/// safetensors.
pub fn safetensors(data: &[u8]) -> Verdict {
    checkpoint(data)
}

/// ONNX.
pub fn onnx(data: &[u8]) -> Verdict {
    checkpoint(data)
}

/// One pickle, set into an otherwise sound legacy stream with one storage of four float32.
pub fn pickle(data: &[u8]) -> Verdict {
    const BEFORE: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\
        \x80\x02}X\x0d\0\0\0little_endian\x88s.";
    const AFTER: &[u8] = b"\x80\x02]X\x01\0\0\x000a.\x04\0\0\0\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@";
    checkpoint(&[BEFORE, data, AFTER].concat())
}

/// data.yaml.
pub fn data_yaml(data: &[u8]) -> Verdict {
    let text = std::str::from_utf8(data).map_err(|e| e.to_string())?;
    data_yaml::parse(text, Path::new("data.yaml")).map(drop).map_err(|e| e.to_string())
}

fn verdict<'a>(labels: impl IntoIterator<Item = &'a Labels>) -> Verdict {
    let mut faults = labels.into_iter().flat_map(|l| &l.faults);
    match faults.find(|fault| fault.kind.is_error()) {
        Some(fault) => Err(fault.message.clone()),
        None => Ok(()),
    }
}

/// A YOLO label file of a data set with two classes.
pub fn yolo_labels(data: &[u8]) -> Verdict {
    let options = yolo::YoloOptions { classes: Some(2), ..yolo::YoloOptions::default() };
    let labels = yolo::parse(data, &options);
    for b in &labels.boxes {
        assert!(b.class < 2 && [b.cx, b.cy, b.w, b.h].iter().all(|v| v.is_finite()), "{b:?}");
    }
    verdict([&labels])
}

/// A Pascal VOC file.
pub fn voc(data: &[u8]) -> Verdict {
    let file = voc::parse(data);
    let classes: HashMap<String, u32> = [("tree".to_owned(), 0), (String::new(), 1)].into();
    let (w, h) = file.size.map_or((64, 48), |(w, h, _)| (w, h));
    verdict([&file.labels, &file.to_labels(&classes, (w, h))])
}

/// A COCO file.
pub fn coco(data: &[u8]) -> Verdict {
    let file = coco::parse(data).map_err(|e| e.to_string())?;
    let classes: Vec<u32> = (0..file.classes.len() as u32).collect();
    for image in &file.images {
        verdict([&image.to_labels(&classes, image.size.unwrap_or((64, 48)))])?;
    }
    let mut faults = file.faults.iter().chain(file.images.iter().flat_map(|i| &i.faults));
    faults.find(|f| f.kind.is_error()).map_or(Ok(()), |f| Err(f.message.clone()))
}

/// A picture.
pub fn picture(data: &[u8]) -> Verdict {
    let picture = picture::decode(data, Path::new("picture")).map_err(|e| e.to_string())?;
    let pixels = picture.width as usize * picture.height as usize;
    assert_eq!(picture.into_rgb8().len(), pixels * 3);
    Ok(())
}

/// A picture with all its pages and channels.
pub fn picture_all(data: &[u8]) -> Verdict {
    let picture = picture::decode_all(data, Path::new("picture")).map_err(|e| e.to_string())?;
    let pixels = picture.width as usize * picture.height as usize;
    assert_eq!(picture.pixels.len(), pixels * picture.channels as usize);
    for channels in [1, 3, picture.channels] {
        assert_eq!(picture.to_channels(channels).is_some(), picture::gives(picture.channels, channels));
    }
    Ok(())
}

/// A DICOM file: the mark is put where the format has it, so that every input is taken for one.
pub fn dicom(data: &[u8]) -> Verdict {
    let mut file = data.to_vec();
    if let Some(mark) = file.get_mut(128..132) {
        mark.copy_from_slice(b"DICM");
    }
    let header = picture::header_of(&file, Path::new("dicom")).map_err(|e| e.to_string())?;
    let first = picture::decode(&file, Path::new("dicom")).map_err(|e| e.to_string())?;
    assert_eq!((first.width, first.height), (header.width, header.height));
    picture_all(&file)
}
