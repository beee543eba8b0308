//! From the inert objects that stand for a tensor to a checked description of where its elements lie.

use super::super::error::CheckpointError;
use super::super::pickle::{Graph, Node, Value};
use super::super::tensor::{Dtype, elements};
use crate::limits::MAX_DIMS;

/// A tensor as strides over a storage.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Elements from one index to the next, by dimension.
    pub stride: Vec<usize>,
    /// First element within the storage.
    pub first: usize,
    /// Key of the storage.
    pub storage: String,
    /// Bytes that the storage must have.
    pub storage_bytes: u64,
}

impl View {
    /// Bytes of the elements.
    pub fn bytes(&self) -> u64 {
        // `new` has checked the product.
        self.shape.iter().product::<usize>() as u64 * self.dtype.size() as u64
    }

    /// Row-major without gaps.
    pub fn contiguous(&self) -> bool {
        // An empty tensor's other dimensions may be of any length.
        if self.shape.contains(&0) {
            return true;
        }
        let mut expected = 1;
        for (&d, &s) in self.shape.iter().zip(&self.stride).rev() {
            if d != 1 && s != expected {
                return false;
            }
            expected *= d;
        }
        true
    }

    /// Whether the tensor is its storage, from the first to the last byte.
    pub fn whole(&self) -> bool {
        self.first == 0 && self.contiguous() && self.bytes() == self.storage_bytes
    }
}

/// A storage as its persistent id describes it.
pub struct Storage {
    pub key: String,
    pub dtype: Option<Dtype>,
    pub numel: u64,
    /// Legacy views: offset and length within the root storage, elements.
    window: Option<(u64, u64)>,
}

impl Storage {
    /// Bytes of the whole storage; untyped ones count bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.numel.checked_mul(self.dtype.map_or(1, |d| d.size() as u64))
    }
}

/// Reads ("storage", type, key, location, length[, (view key, offset, length)]); `None` where the node is something else.
/// `tensor` is for messages.
pub fn storage(graph: &Graph, v: Value, tensor: &str) -> Result<Option<Storage>, CheckpointError> {
    let Some(Node::Persistent(id)) = graph.get(v) else { return Ok(None) };
    let Some(&[_, class, key, _, Value::Int(length), ..]) = graph.tuple(*id) else { return Ok(None) };
    let (Some(class), Some(key)) = (graph.global(class), graph.str(key)) else { return Ok(None) };
    let dtype = match class.name.as_str() {
        "UntypedStorage" => None,
        other => {
            let known = other.strip_suffix("Storage").and_then(|prefix| match prefix {
                "Byte" => Some(Dtype::Uint8),
                "Char" => Some(Dtype::Int8),
                other => Dtype::from_torch(&other.to_ascii_lowercase()),
            });
            Some(known.ok_or_else(|| {
                CheckpointError::bad(tensor, format!("its storage type {class} is not supported"))
            })?)
        }
    };
    let numel = u64::try_from(length)
        .map_err(|_| CheckpointError::bad(tensor, "its storage has a negative length"))?;
    let view = graph.tuple(*id).and_then(|t| t.get(5).copied()).unwrap_or(Value::None);
    let window = match (view, graph.tuple(view)) {
        (Value::None, _) => None,
        (_, Some(&[_, Value::Int(offset @ 0..), Value::Int(size @ 0..)])) => {
            Some((offset.unsigned_abs(), size.unsigned_abs()))
        }
        _ => return Err(CheckpointError::bad(tensor, "its storage view is malformed")),
    };
    Ok(Some(Storage { key: key.to_owned(), dtype, numel, window }))
}

/// What a value of a state dict or module is.
pub enum Entry {
    Tensor(View),
    /// None, a number, a text, a list, a dictionary: no weight.
    Plain,
    /// An object whose data this reader cannot know.
    Opaque(String),
}

/// Looks at one value, through the wrappers of parameters and tensor subclasses.
pub fn entry(graph: &Graph, v: Value, name: &str) -> Result<Entry, CheckpointError> {
    let (mut class, mut args) = match (graph.get(v), graph.class(v)) {
        (Some(Node::Object(object)), Some(class)) => (class, graph.tuple(object.args).unwrap_or(&[])),
        (Some(Node::Persistent(_)), _) => return Ok(Entry::Opaque("torch.storage".to_owned())),
        _ => return Ok(Entry::Plain),
    };
    for _ in 0..8 {
        match class.name.as_str() {
            "_rebuild_tensor" | "_rebuild_tensor_v2" => {
                return view(graph, args, None, name).map(Entry::Tensor);
            }
            "_rebuild_tensor_v3" => {
                let dtype = args.get(6).and_then(|&d| graph.global(d));
                let known = dtype.filter(|d| d.module == "torch").and_then(|d| Dtype::from_torch(&d.name));
                let dtype =
                    known.ok_or_else(|| CheckpointError::bad(name, "its element type is not supported"))?;
                return view(graph, args, Some(dtype), name).map(Entry::Tensor);
            }
            "_rebuild_parameter" | "_rebuild_parameter_with_state" | "Parameter" | "Buffer" => {
                let Some((c, object)) =
                    args.first().and_then(|&inner| Some((graph.class(inner)?, graph.object(inner)?)))
                else {
                    return Err(CheckpointError::bad(name, "a parameter holds no tensor"));
                };
                (class, args) = (c, graph.tuple(object.args).unwrap_or(&[]));
            }
            // (function, type, arguments, state)
            "_rebuild_from_type_v2" => match *args {
                [function, _, inner, _] => match (graph.global(function), graph.tuple(inner)) {
                    (Some(f), Some(inner)) => (class, args) = (f, inner),
                    _ => return Err(CheckpointError::bad(name, "a tensor subclass is malformed")),
                },
                _ => return Err(CheckpointError::bad(name, "a tensor subclass is malformed")),
            },
            other if other.starts_with("_rebuild_") => {
                let kind = other.trim_start_matches("_rebuild_");
                return Err(CheckpointError::bad(
                    name,
                    format!("tensors of kind {kind} are not supported, only dense ones"),
                ));
            }
            _ if graph.number(v).is_some() || graph.entries(v).is_some() || graph.sequence(v).is_some() => {
                return Ok(Entry::Plain);
            }
            _ => return Ok(Entry::Opaque(class.to_string())),
        }
    }
    Err(CheckpointError::bad(name, "its wrappers nest too deeply"))
}

/// (storage, first element, shape, strides, …)
fn view(graph: &Graph, args: &[Value], dtype: Option<Dtype>, name: &str) -> Result<View, CheckpointError> {
    let bad = |reason: &str| CheckpointError::bad(name, reason);
    let &[place, Value::Int(first @ 0..), shape, stride, ..] = args else {
        return Err(bad("its storage, offset, shape or strides are missing or negative"));
    };
    let storage = storage(graph, place, name)?.ok_or_else(|| bad("it has no storage"))?;
    let storage_bytes = storage.bytes().ok_or_else(|| bad("its storage is larger than any memory"))?;
    let dtype = dtype.or(storage.dtype).ok_or_else(|| bad("its storage has no element type"))?;
    let dims = |v: Value, what: &str| {
        let items = graph
            .sequence(v)
            .filter(|s| s.len() <= MAX_DIMS)
            .ok_or_else(|| bad(&format!("its {what} is malformed")))?;
        let sizes = items.iter().map(|&i| match i {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        });
        sizes
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bad(&format!("its {what} has a negative or fractional number")))
    };
    let (shape, stride) = (dims(shape, "shape")?, dims(stride, "strides")?);
    if shape.len() != stride.len() {
        return Err(bad("its shape and strides have different lengths"));
    }
    let count =
        elements(&shape).filter(|n| n.checked_mul(dtype.size()).is_some_and(|b| b <= isize::MAX as usize));
    let count = count.ok_or_else(|| bad("its shape is larger than any memory"))?;

    // Elements of the tensor's own type that the storage, or a legacy view's window on it, spans.
    let (offset, span) = match storage.window {
        Some((offset, size)) => match offset.checked_add(size) {
            Some(end) if end <= storage.numel => (offset, size),
            _ => return Err(bad("its storage view lies outside its storage")),
        },
        None => (0, storage_bytes / dtype.size() as u64),
    };
    if count > 0 {
        let mut last = first.unsigned_abs();
        for (&d, &s) in shape.iter().zip(&stride) {
            last = (d as u64 - 1)
                .checked_mul(s as u64)
                .and_then(|step| last.checked_add(step))
                .ok_or_else(|| bad("its strides reach beyond any memory"))?;
        }
        if last >= span {
            return Err(bad(&format!("its last element is number {last}, but its storage ends at {span}")));
        }
    }
    let first = usize::try_from(offset + first.unsigned_abs())
        .map_err(|_| bad("its offset is larger than any memory"))?;
    Ok(View { name: name.to_owned(), dtype, shape, stride, first, storage: storage.key, storage_bytes })
}
