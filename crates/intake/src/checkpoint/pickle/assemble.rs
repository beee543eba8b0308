//! Pickles written opcode by opcode, for the tests of all readers.

/// A value to pickle.
#[derive(Clone)]
pub enum Item {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    List(Vec<Item>),
    Tuple(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    Global(&'static str, &'static str),
    /// REDUCE.
    Call(Box<Item>, Vec<Item>),
    /// NEWOBJ without arguments, then BUILD.
    New(Box<Item>, Box<Item>),
    /// Entries set on what a call returned.
    Filled(Box<Item>, Vec<(Item, Item)>),
    Persistent(Box<Item>),
}

pub fn text(s: &str) -> Item {
    Item::Str(s.to_owned())
}

pub fn dict(entries: &[(&str, Item)]) -> Item {
    Item::Dict(entries.iter().map(|(k, v)| (text(k), v.clone())).collect())
}

pub fn call(module: &'static str, name: &'static str, args: Vec<Item>) -> Item {
    Item::Call(Box::new(Item::Global(module, name)), args)
}

pub fn ordered(entries: &[(&str, Item)]) -> Item {
    let made = call("collections", "OrderedDict", vec![]);
    Item::Filled(Box::new(made), entries.iter().map(|(k, v)| (text(k), v.clone())).collect())
}

pub fn ints(values: &[i64]) -> Item {
    Item::Tuple(values.iter().map(|&v| Item::Int(v)).collect())
}

/// `torch._utils._rebuild_tensor_v2` over a storage of the given class.
pub fn tensor(
    class: &'static str,
    key: &str,
    numel: i64,
    offset: i64,
    shape: &[i64],
    stride: &[i64],
) -> Item {
    let id = Item::Tuple(vec![
        text("storage"),
        Item::Global("torch", class),
        text(key),
        text("cpu"),
        Item::Int(numel),
    ]);
    let hooks = call("collections", "OrderedDict", vec![]);
    let args = vec![
        Item::Persistent(Box::new(id)),
        Item::Int(offset),
        ints(shape),
        ints(stride),
        Item::Bool(false),
        hooks,
    ];
    call("torch._utils", "_rebuild_tensor_v2", args)
}

/// A module of `class` with these attributes beside its parameters, buffers and children.
pub fn module(
    class: (&'static str, &'static str),
    parameters: &[(&str, Item)],
    buffers: &[(&str, Item)],
    children: &[(&str, Item)],
    attributes: &[(&str, Item)],
) -> Item {
    let mut state = vec![
        ("training", Item::Bool(true)),
        ("_parameters", dict(parameters)),
        ("_buffers", ordered(buffers)),
        ("_non_persistent_buffers_set", call("__builtin__", "set", vec![Item::List(vec![text("scratch")])])),
        ("_modules", ordered(children)),
    ];
    state.extend(attributes.iter().cloned());
    Item::New(Box::new(Item::Global(class.0, class.1)), Box::new(dict(&state)))
}

/// Protocol 2.
pub fn pickle(item: &Item) -> Vec<u8> {
    let mut out = vec![0x80, 2];
    put(&mut out, item);
    out.push(b'.');
    out
}

fn put(out: &mut Vec<u8>, item: &Item) {
    match item {
        Item::None => out.push(b'N'),
        Item::Bool(b) => out.push(if *b { 0x88 } else { 0x89 }),
        Item::Int(i) => match i32::try_from(*i) {
            Ok(i) => {
                out.push(b'J');
                out.extend(i.to_le_bytes());
            }
            Err(_) => {
                out.extend([0x8a, 8]);
                out.extend(i.to_le_bytes());
            }
        },
        Item::Float(f) => {
            out.push(b'G');
            out.extend(f.to_be_bytes());
        }
        Item::Str(s) => {
            out.push(b'X');
            out.extend(u32::try_from(s.len()).unwrap().to_le_bytes());
            out.extend(s.bytes());
        }
        Item::List(items) => {
            out.extend(b"](");
            items.iter().for_each(|i| put(out, i));
            out.push(b'e');
        }
        Item::Tuple(items) => {
            out.push(b'(');
            items.iter().for_each(|i| put(out, i));
            out.push(b't');
        }
        Item::Dict(entries) => {
            out.push(b'}');
            set(out, entries);
        }
        Item::Global(module, name) => out.extend(format!("c{module}\n{name}\n").bytes()),
        Item::Call(class, args) => {
            put(out, class);
            put(out, &Item::Tuple(args.clone()));
            out.push(b'R');
        }
        Item::New(class, state) => {
            put(out, class);
            out.extend([b')', 0x81]);
            put(out, state);
            out.push(b'b');
        }
        Item::Filled(made, entries) => {
            put(out, made);
            set(out, entries);
        }
        Item::Persistent(id) => {
            put(out, id);
            out.push(b'Q');
        }
    }
}

fn set(out: &mut Vec<u8>, entries: &[(Item, Item)]) {
    out.push(b'(');
    for (k, v) in entries {
        put(out, k);
        put(out, v);
    }
    out.push(b'u');
}

/// A container as torch.save writes it: data.pkl, byteorder and one entry a storage, none compressed.
pub fn container(data_pkl: &[u8], storages: &[(&str, &[u8])], byteorder: &str) -> Vec<u8> {
    container_with(data_pkl, storages, byteorder, zip::CompressionMethod::Stored)
}

pub fn container_with(
    data_pkl: &[u8],
    storages: &[(&str, &[u8])],
    byteorder: &str,
    method: zip::CompressionMethod,
) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut entry = |name: &str, bytes: &[u8]| {
        zip.start_file(format!("archive/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    };
    entry("data.pkl", data_pkl);
    entry("byteorder", byteorder.as_bytes());
    for (key, bytes) in storages {
        entry(&format!("data/{key}"), bytes);
    }
    entry("version", b"3\n");
    zip.finish().unwrap().into_inner()
}

/// A legacy stream; storages are (key, number of elements, bytes).
pub fn legacy(object: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let mut out = vec![0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
    out.extend(pickle(&Item::Int(1001)));
    out.extend(pickle(&dict(&[("protocol_version", Item::Int(1001)), ("little_endian", Item::Bool(true))])));
    out.extend(object);
    out.extend(pickle(&Item::List(storages.iter().map(|(k, ..)| text(k)).collect())));
    for (_, numel, bytes) in storages {
        out.extend(numel.to_le_bytes());
        out.extend(*bytes);
    }
    out
}
