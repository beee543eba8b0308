//! Every cap on untrusted input, in one place. A file beyond a cap is refused with an error before
//! memory is set aside for it.

// Pictures, labels and data sets.

/// Largest picture file that is read, in bytes.
pub const PICTURE_FILE_BYTES: u64 = 512 << 20;
/// Most memory that decoding one picture may take, in bytes: its pixels and the decoder's own buffers.
/// This admits a photograph of 100 million pixels and refuses one of 60,000 x 60,000.
pub const PICTURE_MEMORY_BYTES: u64 = 512 << 20;
/// Most directories of a TIFF file.
pub const PICTURE_PAGES: u32 = 4_096;
/// Most channels of a picture, over all its pages. Hyperspectral cameras have some hundreds.
pub const PICTURE_CHANNELS: u32 = 1_024;
/// Elements of a DICOM file, those within sequences included where their lengths are not told.
pub const DICOM_ELEMENTS: u32 = 1 << 20;
/// Sequences of a DICOM file within one another.
pub const DICOM_DEPTH: u32 = 16;
/// Bytes of a value of a DICOM file that is read.
pub const DICOM_VALUE_BYTES: u32 = 1_024;
/// Most frames of one video that are looked at: two hours at 30 a second.
pub const VIDEO_FRAMES: u64 = 216_000;
/// Largest `data.yaml`, in bytes.
pub const DATA_YAML_BYTES: u64 = 4 << 20;
/// Deepest nesting of lists and mappings in a `data.yaml`.
pub const DATA_YAML_DEPTH: usize = 16;
/// Most classes that a data set may name.
pub const CLASSES: usize = 65_536;
/// Largest YOLO label file (one image's boxes), in bytes.
pub const YOLO_FILE_BYTES: u64 = 16 << 20;
/// Largest Pascal VOC file (one image's boxes), in bytes.
pub const VOC_FILE_BYTES: u64 = 16 << 20;
/// Most XML nodes in a Pascal VOC file.
pub const VOC_NODES: u32 = 1 << 20;
/// Largest COCO file, in bytes. COCO's own training annotations have 450 MB.
pub const COCO_FILE_BYTES: u64 = 1 << 30;
/// Largest IDX file, unpacked, in bytes. EMNIST's largest has 547 MB.
pub const IDX_FILE_BYTES: u64 = 1 << 30;
/// Largest list of image paths, in bytes.
pub const LIST_FILE_BYTES: u64 = 256 << 20;

// ---- archives -------------------------------------------------------------------------------------------------------

/// Files and folders of an archive: a data set of 100,000 images with as many label files has 200,000.
pub const ARCHIVE_ENTRIES: u64 = 300_000;

/// Bytes of one unpacked file: the largest that another reader here takes is a COCO file of 1 GiB.
pub const ARCHIVE_FILE_BYTES: u64 = 1 << 30;

/// Bytes of all unpacked files.
pub const ARCHIVE_TOTAL_BYTES: u64 = 64 << 30;

/// Bytes unpacked for each byte of the archive. Pictures shrink little, labels about tenfold; Deflate can do 1,032.
pub const ARCHIVE_RATIO: u64 = 100;

/// Bytes that may be unpacked whatever the ratio.
pub const ARCHIVE_RATIO_SLACK: u64 = 16 << 20;

/// Bytes of a file's name with its folders.
pub const ARCHIVE_NAME_BYTES: usize = 1_024;

/// Bytes of one part of a name; usual file systems take no more.
pub const ARCHIVE_COMPONENT_BYTES: usize = 255;

/// Folders within one another.
pub const ARCHIVE_DEPTH: usize = 32;

// ---- checkpoints ----------------------------------------------------------------------------------------------------

/// Largest model file, bytes. The largest detection checkpoint in use is under 1 GiB.
pub const MAX_CHECKPOINT_BYTES: u64 = 16 << 30;

/// Tensor bytes that a checkpoint may hold beyond twice (`.pt`) or once (ONNX, safetensors) its own size.
/// With the pickle budget below this keeps the peak under 2x the file size + 64 MiB.
pub const CHECKPOINT_HEADROOM_BYTES: u64 = 16 << 20;

/// Tensors in one checkpoint; YOLO12x has 1,245.
pub const MAX_TENSORS: usize = 20_000;

/// Characters in a tensor's dotted name.
pub const MAX_TENSOR_NAME: usize = 512;

/// Dimensions of a tensor; PyTorch itself stops at 64, models use at most 5.
pub const MAX_DIMS: usize = 8;

/// Entries of a zip container. One a tensor, and about ten others.
pub const MAX_ZIP_ENTRIES: u64 = 50_000;

/// Bytes of a small text entry of a `.pt` container (`byteorder`, `version`).
pub const MAX_ZIP_TEXT: u64 = 1_024;

// ---- pickle ---------------------------------------------------------------------------------------------------------

/// Opcodes of one pickle. A YOLO12x training checkpoint with model, EMA and optimiser has 277,000.
pub const MAX_PICKLE_OPS: u64 = 4_000_000;

/// Bytes of memory that the inert objects of one pickle may take, spare capacity included. That checkpoint takes 15 MiB.
pub const MAX_PICKLE_MEMORY: usize = 28 << 20;

/// Bytes of one string or byte string.
pub const MAX_PICKLE_STRING: usize = 2 << 20;

/// Values on the stack. Picklers write containers in batches of 1,000.
pub const MAX_PICKLE_STACK: usize = 65_536;

/// Open marks, that is, containers begun and not ended.
pub const MAX_PICKLE_MARKS: usize = 1_024;

/// Nesting of objects: a few levels for each level of modules.
pub const MAX_PICKLE_DEPTH: u16 = 500;

/// Bytes of the name of a class or function.
pub const MAX_PICKLE_GLOBAL: usize = 512;

/// Bytes of an integer of any length.
pub const MAX_PICKLE_INTEGER: usize = 64;

/// Depth of modules within modules.
pub const MAX_MODULE_DEPTH: usize = 64;

/// Modules visited in one model, shared ones counted each time.
pub const MAX_MODULES: usize = 100_000;

/// Attributes, parameters, buffers and children of all of them together; about 20 a module is usual.
pub const MAX_MODULE_ENTRIES: usize = 2_000_000;

/// Values of an architecture dictionary, argument dictionary or list of names when it becomes JSON.
pub const MAX_JSON_VALUES: usize = 50_000;

/// Nesting of such a dictionary.
pub const MAX_JSON_DEPTH: usize = 64;

// ---- safetensors ----------------------------------------------------------------------------------------------------

/// Bytes of the JSON header; 100 for each tensor is usual.
pub const MAX_SAFETENSORS_HEADER: u64 = 2 << 20;

// ---- ONNX -----------------------------------------------------------------------------------------------------------

/// Nodes of a graph; detectors have some hundreds.
pub const MAX_ONNX_NODES: usize = 100_000;

/// Bytes of one metadata value; the names of 10,000 classes take about 300,000.
pub const MAX_ONNX_METADATA: usize = 1 << 20;

/// Entries of the metadata.
pub const MAX_ONNX_METADATA_ENTRIES: usize = 1_024;
