//! Views on a [`Graph`]: what an inert object says about the Python object that it would have been.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::super::error::CheckpointError;
use super::graph::{Global, Graph, Node, Object, Value};
use crate::limits::{MAX_JSON_DEPTH, MAX_JSON_VALUES};

impl Graph {
    /// A text.
    pub fn str(&self, v: Value) -> Option<&str> {
        match self.get(v)? {
            Node::Str(s) => Some(s),
            _ => None,
        }
    }

    /// A tuple's values.
    pub fn tuple(&self, v: Value) -> Option<&[Value]> {
        match self.get(v)? {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A class or function.
    pub fn global(&self, v: Value) -> Option<&Global> {
        match self.get(v)? {
            Node::Global(g) => Some(g),
            _ => None,
        }
    }

    /// An instance, or what a call would have returned.
    pub fn object(&self, v: Value) -> Option<&Object> {
        match self.get(v)? {
            Node::Object(o) => Some(o),
            _ => None,
        }
    }

    /// The class of an instance. Protocol 1 makes one as `copyreg._reconstructor(class, base, state)`.
    pub fn class(&self, v: Value) -> Option<&Global> {
        let object = self.object(v)?;
        match self.node(object.class) {
            Node::Global(g) if g.module == "copyreg" => self.global(*self.tuple(object.args)?.first()?),
            Node::Global(g) => Some(g),
            _ => None,
        }
    }

    /// The values of a list, tuple, set, or torch.Size.
    pub fn sequence(&self, v: Value) -> Option<&[Value]> {
        match self.get(v)? {
            Node::List(items) | Node::Set(items) => Some(items),
            Node::Tuple(items) => Some(items),
            Node::Object(object) => {
                let class = self.class(v)?;
                let wraps = matches!(
                    (class.module.as_str(), class.name.as_str()),
                    ("torch", "Size")
                        | ("builtins", "set" | "frozenset" | "list" | "tuple")
                        | ("collections", "deque")
                );
                if !wraps {
                    return None;
                }
                match self.tuple(object.args)? {
                    [] => Some(&object.items),
                    [inner, ..] if object.items.is_empty() => match self.get(*inner)? {
                        Node::List(items) | Node::Set(items) => Some(items),
                        Node::Tuple(items) => Some(items),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The entries of a dict, OrderedDict, defaultdict or Counter, in order.
    pub fn entries(&self, v: Value) -> Option<Cow<'_, [(Value, Value)]>> {
        match self.get(v)? {
            Node::Dict(entries) => Some(Cow::Borrowed(entries)),
            Node::Object(object) => {
                let class = self.class(v)?;
                let dict = matches!(
                    (class.module.as_str(), class.name.as_str()),
                    ("collections", "OrderedDict" | "defaultdict" | "Counter") | ("builtins", "dict")
                );
                if !dict {
                    return None;
                }
                // Python 2 passes an OrderedDict's entries as a list of [key, value].
                if class.name == "OrderedDict"
                    && let Some(&[pairs]) = self.tuple(object.args)
                {
                    let mut entries = Vec::new();
                    for &pair in self.sequence(pairs)? {
                        match self.sequence(pair)? {
                            &[k, v] => entries.push((k, v)),
                            _ => return None,
                        }
                    }
                    entries.extend_from_slice(&object.entries);
                    return Some(Cow::Owned(entries));
                }
                Some(Cow::Borrowed(&object.entries))
            }
            _ => None,
        }
    }

    /// The value of a text key in a dictionary; the last one counts, as in Python.
    pub fn item(&self, v: Value, key: &str) -> Option<Value> {
        self.entries(v)?.iter().rev().find(|(k, _)| self.str(*k) == Some(key)).map(|&(_, v)| v)
    }

    /// The attributes of an instance: its state's dictionary.
    pub fn attributes(&self, v: Value) -> Option<Cow<'_, [(Value, Value)]>> {
        let state = self.object(v)?.state?;
        match self.tuple(state) {
            Some(&[dict, _slots]) => self.entries(dict),
            _ => self.entries(state),
        }
    }

    /// One attribute of an instance.
    pub fn attribute(&self, v: Value, name: &str) -> Option<Value> {
        self.attributes(v)?.iter().rev().find(|(k, _)| self.str(*k) == Some(name)).map(|&(_, v)| v)
    }

    /// Plain bytes, also as protocol 2 writes them: `_codecs.encode(text, "latin1")`.
    pub fn bytes(&self, v: Value) -> Option<Vec<u8>> {
        match self.get(v)? {
            Node::Bytes(b) => Some(b.to_vec()),
            Node::Object(object) if self.class(v)?.module == "_codecs" => match self.tuple(object.args)? {
                &[text, codec] if matches!(self.str(codec), Some("latin1" | "latin-1")) => {
                    self.str(text)?.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// The number in a Python or NumPy scalar.
    pub fn number(&self, v: Value) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "configuration values are far below 2^53")]
        match v {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            Value::Bool(b) => Some(f64::from(u8::from(b))),
            Value::None => None,
            Value::Node(_) => self.numpy_scalar(v),
        }
    }

    /// `numpy.core.multiarray.scalar(dtype, bytes)` with `dtype` = `numpy.dtype("f8", …)`.
    fn numpy_scalar(&self, v: Value) -> Option<f64> {
        let object = self.object(v)?;
        if self.class(v)?.name != "scalar" {
            return None;
        }
        let &[dtype, data] = self.tuple(object.args)? else { return None };
        let kind = self.str(*self.tuple(self.object(dtype)?.args)?.first()?)?;
        // The dtype's state is (version, byte order, …).
        let order = self.object(dtype)?.state.and_then(|s| self.tuple(s)).and_then(|s| self.str(*s.get(1)?));
        let mut data = self.bytes(data)?;
        if order == Some(">") {
            data.reverse();
        }
        let b = data.as_slice();
        #[allow(clippy::cast_precision_loss, reason = "configuration values are far below 2^53")]
        Some(match kind {
            "f8" => f64::from_le_bytes(b.try_into().ok()?),
            "f4" => f64::from(f32::from_le_bytes(b.try_into().ok()?)),
            "f2" => half::f16::from_le_bytes(b.try_into().ok()?).to_f64(),
            "i8" => i64::from_le_bytes(b.try_into().ok()?) as f64,
            "i4" => f64::from(i32::from_le_bytes(b.try_into().ok()?)),
            "i2" => f64::from(i16::from_le_bytes(b.try_into().ok()?)),
            "i1" => f64::from(i8::from_le_bytes(b.try_into().ok()?)),
            "u8" => u64::from_le_bytes(b.try_into().ok()?) as f64,
            "u4" => f64::from(u32::from_le_bytes(b.try_into().ok()?)),
            "u2" => f64::from(u16::from_le_bytes(b.try_into().ok()?)),
            "u1" | "b1" => f64::from(u8::from_le_bytes(b.try_into().ok()?)),
            _ => return None,
        })
    }

    /// A whole number, also from NumPy.
    pub fn integer(&self, v: Value) -> Option<i64> {
        match v {
            Value::Int(i) => Some(i),
            Value::Bool(_) => None,
            _ => {
                let f = self.number(v)?;
                #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within i64")]
                (f.fract() == 0.0 && f.abs() < 9e15).then_some(f as i64)
            }
        }
    }

    /// Plain data as JSON: tuples and sets become arrays, keys text, paths text, NumPy scalars numbers, enumeration members
    /// their value, NaN and infinities text. An object without such a meaning becomes `{"$object": "module.Class"}`.
    ///
    /// # Errors
    /// When there are more values, or they nest deeper, than any configuration does.
    pub fn json(&self, v: Value) -> Result<Json, CheckpointError> {
        let mut left = MAX_JSON_VALUES;
        self.json_within(v, &mut left, 0)
    }

    fn json_within(&self, v: Value, left: &mut usize, depth: usize) -> Result<Json, CheckpointError> {
        if depth > MAX_JSON_DEPTH {
            return Err(CheckpointError::Limit {
                what: "the nesting of the model's settings",
                limit: MAX_JSON_DEPTH as u64,
            });
        }
        let text = self.str(v);
        // A text shared a thousand times in the pickle is copied a thousand times here.
        let cost = 1 + text.map_or(0, |t| t.len() / 32);
        *left = left.checked_sub(cost).ok_or(CheckpointError::Limit {
            what: "the number of the model's settings",
            limit: MAX_JSON_VALUES as u64,
        })?;
        let node = match v {
            Value::None => return Ok(Json::Null),
            Value::Bool(b) => return Ok(Json::Bool(b)),
            Value::Int(i) => return Ok(Json::from(i)),
            Value::Float(f) => return Ok(float(f)),
            Value::Node(id) => self.node(id),
        };
        let mut sequence = |items: &[Value]| {
            items
                .iter()
                .map(|&i| self.json_within(i, left, depth + 1))
                .collect::<Result<_, _>>()
                .map(Json::Array)
        };
        Ok(match node {
            Node::Str(s) => Json::from(s.as_ref()),
            Node::Bytes(b) => Json::from(format!("{} bytes", b.len())),
            Node::BigInt(b) => Json::from(format!("integer of {} bytes", b.len())),
            Node::List(items) | Node::Set(items) => sequence(items)?,
            Node::Tuple(items) => sequence(items)?,
            Node::Global(g) => Json::from(g.to_string()),
            Node::Persistent(_) => Json::from("a storage"),
            Node::Dict(_) | Node::Object(_) => {
                if let Some(items) = self.sequence(v) {
                    return sequence(items);
                }
                if let Some(number) = self.numpy_scalar(v) {
                    return Ok(match self.integer(v) {
                        Some(i) => Json::from(i),
                        None => float(number),
                    });
                }
                // A namespace is its attributes.
                let namespace = self.class(v).is_some_and(|c| c.name.ends_with("Namespace"));
                let entries = if namespace { self.attributes(v) } else { self.entries(v) };
                if let Some(entries) = entries {
                    let mut map = serde_json::Map::new();
                    for &(k, v) in entries.iter() {
                        // The key is charged as a value of its own.
                        self.json_within(k, left, depth + 1)?;
                        map.insert(self.key(k), self.json_within(v, left, depth + 1)?);
                    }
                    return Ok(Json::Object(map));
                }
                self.json_object(v, left, depth)?
            }
        })
    }

    fn json_object(&self, v: Value, left: &mut usize, depth: usize) -> Result<Json, CheckpointError> {
        if let (Some(class), Some(object)) = (self.class(v), self.object(v)) {
            let args = self.tuple(object.args).unwrap_or(&[]);
            if class.module.starts_with("pathlib") && !args.is_empty() {
                let mut path = std::path::PathBuf::new();
                for part in args.iter().filter_map(|&a| self.str(a)) {
                    path.push(part);
                }
                return Ok(Json::from(path.to_string_lossy().into_owned()));
            }
            if let ("torch", "device") = (class.module.as_str(), class.name.as_str())
                && let Some(name) = args.first().and_then(|&a| self.str(a))
            {
                return Ok(Json::from(name));
            }
            // An enumeration's member is its class called with its value, and has no state.
            if let (&[value], None) = (args, object.state)
                && (matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_))
                    || self.str(value).is_some())
            {
                return self.json_within(value, left, depth + 1);
            }
            return Ok(serde_json::json!({ "$object": class.to_string() }));
        }
        Ok(Json::Null)
    }

    fn key(&self, v: Value) -> String {
        match v {
            Value::None => "None".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::Float(f) => f.to_string(),
            Value::Node(_) => match self.str(v) {
                Some(s) => s.to_owned(),
                None => "(object)".to_owned(),
            },
        }
    }
}

fn float(f: f64) -> Json {
    serde_json::Number::from_f64(f).map_or_else(|| Json::from(f.to_string()), Json::Number)
}
