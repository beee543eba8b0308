//! The reference's arguments that have no field here: accepted at their defaults, refused at any other value, never
//! silently ignored.
use super::table::ArgumentError;

/// An argument of the reference without effect here.
struct Unheard {
    name: &'static str,
    /// Every way in which its default is written.
    defaults: &'static [&'static str],
    why: &'static str,
}

const NONE: &[&str] = &["", "None", "none", "null", "~"];
const FALSE: &[&str] = &["False", "false", "0"];
const TRUE: &[&str] = &["True", "true", "1"];
const OTHER_TASK: &str = "it belongs to a task that onsa does not train";
const PREDICTION: &str = "it acts on prediction, not on training";
const EXPORT: &str = "it acts on export, not on training";

const fn unheard(name: &'static str, defaults: &'static [&'static str], why: &'static str) -> Unheard {
    Unheard { name, defaults, why }
}

#[rustfmt::skip]
const TABLE: &[Unheard] = &[
    unheard("mode", &["train"], "the verb says the mode"),
    unheard("save", TRUE, "a run always saves its weights"),
    unheard("resume", FALSE, "use `onsa resume RUN_DIR`"),
    unheard("cls_remap", TRUE, "classes are always matched by name"),
    unheard("deterministic", TRUE, "onsa is always deterministic"),
    unheard("profile", FALSE, "use `onsa bench`"),
    unheard("compile", FALSE, "every plan is compiled for its machine already"),
    unheard("channels_last", &["", "None", "none", "null", "~", "True", "true"], "the layout is always channels last"),
    unheard("overlap_mask", TRUE, OTHER_TASK),
    unheard("mask_ratio", &["4"], OTHER_TASK),
    unheard("split", &["val"], "training validates on `val`; use `onsa val split=...`"),
    unheard("save_json", FALSE, "use `onsa val` or `onsa predict` with --json"),
    unheard("conf", NONE, PREDICTION),
    unheard("iou", &["0.7"], "validation in training uses 0.7; use `onsa val iou=...`"),
    unheard("max_det", &["300"], "validation in training uses 300; use `onsa val max_det=...`"),
    unheard("quantize", NONE, "training runs in float32"),
    unheard("half", FALSE, "training runs in float32"),
    unheard("int8", FALSE, "training runs in float32"),
    unheard("dnn", FALSE, PREDICTION),
    unheard("nms", NONE, EXPORT),
    unheard("source", NONE, PREDICTION),
    unheard("vid_stride", &["1"], PREDICTION),
    unheard("stream_buffer", FALSE, PREDICTION),
    unheard("visualize", FALSE, PREDICTION),
    unheard("augment", FALSE, PREDICTION),
    unheard("agnostic_nms", FALSE, PREDICTION),
    unheard("classes", NONE, "the data set's classes are all trained"),
    unheard("retina_masks", FALSE, OTHER_TASK),
    unheard("embed", NONE, PREDICTION),
    unheard("show", FALSE, "onsa opens no window"),
    unheard("save_frames", FALSE, PREDICTION),
    unheard("save_txt", FALSE, PREDICTION),
    unheard("save_conf", FALSE, PREDICTION),
    unheard("save_crop", FALSE, PREDICTION),
    unheard("show_labels", TRUE, PREDICTION),
    unheard("show_conf", TRUE, PREDICTION),
    unheard("show_boxes", TRUE, PREDICTION),
    unheard("line_width", NONE, PREDICTION),
    unheard("format", &["torchscript"], EXPORT),
    unheard("keras", FALSE, EXPORT),
    unheard("optimize", FALSE, EXPORT),
    unheard("dynamic", FALSE, EXPORT),
    unheard("simplify", TRUE, EXPORT),
    unheard("opset", NONE, EXPORT),
    unheard("workspace", NONE, EXPORT),
    unheard("distill_model", NONE, "distillation is not supported"),
    unheard("dis", &["6", "6.0"], "distillation is not supported"),
    unheard("pose", &["12", "12.0"], OTHER_TASK),
    unheard("kobj", &["1", "1.0"], OTHER_TASK),
    unheard("rle", &["1", "1.0"], OTHER_TASK),
    unheard("angle", &["1", "1.0"], OTHER_TASK),
    unheard("dlog", &["1", "1.0"], OTHER_TASK),
    unheard("dgrad", &["0.5"], OTHER_TASK),
    unheard("dlam", &["1", "1.0"], OTHER_TASK),
    unheard("bgr", &["0", "0.0"], "channels are never swapped"),
    unheard("copy_paste_mode", &["flip"], "copy_paste needs outlines, and detection data has boxes only"),
    unheard("tracker", &["tracktrack.yaml", "botsort.yaml"], "it acts on tracking, not on training"),
    unheard("save_dir", NONE, "use project=DIR name=NAME"),
];

/// The names in the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}

/// `None` if the name is not in the table; otherwise whether the value may stand.
pub(super) fn accept(name: &str, value: &str) -> Option<Result<(), ArgumentError>> {
    let entry = TABLE.iter().find(|entry| entry.name == name)?;
    if entry.defaults.contains(&value.trim()) {
        return Some(Ok(()));
    }
    Some(Err(ArgumentError::NotHonoured {
        name: name.to_owned(),
        value: value.to_owned(),
        why: entry.why.to_owned(),
    }))
}
