//! The pickle of a state dict, protocol 2, in the few instructions that it needs.
//!
//! Instruction codes: Python's `pickletools`. A tensor is `torch._utils._rebuild_tensor_v2(storage, offset, shape, strides,
//! requires_grad, hooks)`, its storage a persistent id `('storage', class, key, device, elements)`.

use super::{Entry, Values};

/// An `OrderedDict` of tensors; storage `i` is the entry `data/i` of the container.
pub fn state_dict(entries: &[Entry]) -> Vec<u8> {
    let mut p = Pickle(vec![0x80, 2]);
    p.ordered_dict();
    p.op(b'(');
    for (key, entry) in entries.iter().enumerate() {
        p.text(&entry.name);
        p.tensor(entry, key);
    }
    p.op(b'u');
    p.op(b'.');
    p.0
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, code: u8) {
        self.0.push(code);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.op(b')');
        self.op(b'R');
    }

    fn text(&mut self, text: &str) {
        self.op(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.bytes());
    }

    fn int(&mut self, value: usize) {
        match i32::try_from(value) {
            Ok(small) => {
                self.op(b'J');
                self.0.extend(small.to_le_bytes());
            }
            Err(_) => {
                // LONG1: nine bytes keep the sign bit clear.
                self.0.extend([0x8a, 9]);
                self.0.extend((value as u64).to_le_bytes());
                self.op(0);
            }
        }
    }

    fn ints(&mut self, values: impl Iterator<Item = usize>) {
        self.op(b'(');
        for value in values {
            self.int(value);
        }
        self.op(b't');
    }

    fn tensor(&mut self, entry: &Entry, key: usize) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.op(b'(');
        {
            self.op(b'(');
            self.text("storage");
            let class = match entry.values {
                Values::Float(_) => "FloatStorage",
                Values::Long(_) => "LongStorage",
            };
            self.global("torch", class);
            self.text(&key.to_string());
            self.text("cpu");
            self.int(entry.values.len());
            self.op(b't');
            self.op(b'Q');
        }
        self.int(0);
        self.ints(entry.shape.iter().copied());
        let stride = |axis: usize| entry.shape[axis + 1..].iter().product();
        self.ints((0..entry.shape.len()).map(stride));
        self.op(0x89);
        self.ordered_dict();
        self.op(b't');
        self.op(b'R');
    }
}
