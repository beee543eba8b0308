//! IDX files (LeCun, the MNIST database): arrays of bytes behind a short header, plain or compressed with gzip.

use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use crate::limits::IDX_FILE_BYTES;

/// An array of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// Its sizes, outermost first: `[images, rows, columns]`, or `[labels]`.
    pub shape: Vec<usize>,
    /// The elements, the last dimension running fastest.
    pub data: Vec<u8>,
}

/// An IDX file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdxError {
    /// The file system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is damaged, too large or of another kind.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what helps.
        reason: String,
    },
}

/// Reads an IDX file of unsigned bytes whole.
///
/// # Errors
/// See [`IdxError`].
pub fn read(path: &Path) -> Result<Idx, IdxError> {
    let failed = |source| IdxError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut file = std::io::BufReader::new(file);
    let mut bytes = Vec::new();
    let is_gzip = std::io::BufRead::fill_buf(&mut file).map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    // One byte more than allowed, so that a longer stream shows.
    let limit = IDX_FILE_BYTES + 1;
    if is_gzip {
        GzDecoder::new(file).take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    parse(bytes).map_err(|reason| IdxError::Damaged { path: path.to_owned(), reason })
}

/// Two zeros, the element's type (8: unsigned byte), the number of dimensions, each size as four bytes, big-endian first.
fn parse(bytes: Vec<u8>) -> Result<Idx, String> {
    if bytes.len() as u64 > IDX_FILE_BYTES {
        return Err(format!("it unpacks to more than {IDX_FILE_BYTES} bytes"));
    }
    let [0, 0, kind, dimensions, rest @ ..] = bytes.as_slice() else {
        return Err("it is no IDX file: its first two bytes are not 0".into());
    };
    if *kind != 8 {
        return Err(format!("its elements are of type {kind:#04x}; only unsigned bytes (0x08) are read"));
    }
    let dimensions = usize::from(*dimensions);
    if !(1..=4).contains(&dimensions) || rest.len() < 4 * dimensions {
        return Err(format!("its header of {dimensions} dimensions is cut off or impossible"));
    }
    let shape: Vec<usize> = rest[..4 * dimensions]
        .chunks_exact(4)
        .map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize)
        .collect();
    let start = 4 + 4 * dimensions;
    let needed = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
    if needed != Some(bytes.len() - start) {
        return Err(format!(
            "its header says {} elements, but {} are there; the file is damaged",
            shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x "),
            bytes.len() - start
        ));
    }
    let mut data = bytes;
    data.drain(..start);
    Ok(Idx { shape, data })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(shape: &[u32], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(data);
        bytes
    }

    #[test]
    fn plain_and_compressed_files_are_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = file(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let plain = folder.path().join("plain");
        std::fs::write(&plain, &bytes).unwrap();
        let packed = folder.path().join("packed.gz");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
        let expected = Idx { shape: vec![2, 1, 3], data: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(read(&plain).unwrap(), expected);
        assert_eq!(read(&packed).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let says = |bytes: &[u8]| parse(bytes.to_vec()).unwrap_err();
        assert!(says(b"PNG").contains("no IDX file"));
        assert!(says(&[]).contains("no IDX file"));
        assert!(says(&[0, 0, 0x0d, 1, 0, 0, 0, 0]).contains("0x0d"));
        assert!(says(&[0, 0, 8, 200]).contains("200 dimensions"));
        assert!(says(&file(&[3], &[1, 2])).contains("3 elements, but 2"));
        assert!(says(&file(&[u32::MAX; 4], &[])).contains("damaged"));
    }
}
