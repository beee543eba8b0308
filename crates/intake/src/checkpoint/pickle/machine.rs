//! The stack machine: opcodes in, a [`Graph`] out.

use std::collections::HashMap;
use std::io::Read;

use super::super::error::CheckpointError;
use super::globals;
use super::graph::{ELEMENT, Global, Graph, Node, Object, Value};
use crate::limits::{
    MAX_PICKLE_GLOBAL, MAX_PICKLE_INTEGER, MAX_PICKLE_MARKS, MAX_PICKLE_OPS, MAX_PICKLE_STACK,
    MAX_PICKLE_STRING,
};

/// Reads one pickle, to its STOP opcode and no byte further.
///
/// # Errors
/// On a truncated or malformed pickle, an opcode or name outside the allow-list, or more than the limits allow.
pub fn load(reader: &mut impl Read) -> Result<(Graph, Value), CheckpointError> {
    let mut machine = Machine {
        reader,
        offset: 0,
        at: 0,
        graph: Graph::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..MAX_PICKLE_OPS {
        machine.at = machine.offset;
        let [opcode] = machine.take()?;
        if opcode == b'.' {
            let value = machine.pop()?;
            if !machine.stack.is_empty() || !machine.marks.is_empty() {
                return Err(machine.fault("values are left over at its end"));
            }
            return Ok((machine.graph, value));
        }
        machine.step(opcode)?;
    }
    Err(CheckpointError::Limit { what: "the number of pickle opcodes", limit: MAX_PICKLE_OPS })
}

struct Machine<'a, R> {
    reader: &'a mut R,
    offset: u64,
    /// Offset of the opcode that runs, for messages.
    at: u64,
    graph: Graph,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

type Done = Result<(), CheckpointError>;

impl<R: Read> Machine<'_, R> {
    fn step(&mut self, opcode: u8) -> Done {
        match opcode {
            0x80 => {
                let [protocol] = self.take()?;
                if protocol > 5 { Err(self.fault(format!("it says protocol {protocol}"))) } else { Ok(()) }
            }
            // A frame's length is a hint for buffering; the opcodes within speak for themselves.
            0x95 => self.take::<8>().map(drop),
            b'(' => {
                if self.marks.len() >= MAX_PICKLE_MARKS {
                    return Err(CheckpointError::Limit {
                        what: "the pickle's open containers",
                        limit: MAX_PICKLE_MARKS as u64,
                    });
                }
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'I' | b'J' | b'K' | b'M' | b'L' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => self.text(opcode),
            b')' | b't' | 0x85..=0x87 | b']' | b'l' | b'}' | b'd' | 0x8f | 0x91 => self.container(opcode),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(opcode),
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode),
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.graph.str(module), self.graph.str(name)) {
                    (Some(m), Some(n)) => {
                        let (m, n) = (m.to_owned(), n.to_owned());
                        self.global(&m, &n)
                    }
                    _ => Err(self.fault("a class is named by something that is no text")),
                }
            }
            b'R' | 0x81 => {
                let (args, class) = (self.pop()?, self.pop()?);
                self.object(class, args, opcode == b'R')
            }
            0x92 => {
                let (keywords, args, class) = (self.pop()?, self.pop()?, self.pop()?);
                if self.graph.entries(keywords).is_none_or(|e| !e.is_empty()) {
                    return Err(self.fault("an object is made with keyword arguments"));
                }
                self.object(class, args, false)
            }
            b'b' => self.build(),
            b'Q' => self.persistent(),
            _ => Err(CheckpointError::Opcode { opcode, name: refused_name(opcode), offset: self.at }),
        }
    }

    // ---- values ----

    fn number(&mut self, opcode: u8) -> Done {
        let value = match opcode {
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.take()?))),
            b'K' => Value::Int(i64::from(u8::from_le_bytes(self.take()?))),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.take()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.take()?)),
            b'I' => match self.line()?.as_str() {
                "00" => Value::Bool(false),
                "01" => Value::Bool(true),
                digits => Value::Int(digits.parse().map_err(|_| self.fault("a decimal integer is none"))?),
            },
            b'L' => {
                let line = self.line()?;
                let digits = line.strip_suffix('L').unwrap_or(&line);
                Value::Int(
                    digits.parse().map_err(|_| self.fault("a decimal integer is none, or beyond 64 bits"))?,
                )
            }
            _ => {
                let length = if opcode == 0x8a {
                    u64::from(self.take::<1>()?[0])
                } else {
                    u64::from(u32::from_le_bytes(self.take()?))
                };
                let bytes = self.bytes(length, MAX_PICKLE_INTEGER, "an integer of the pickle, bytes,")?;
                match small(&bytes) {
                    Some(i) => Value::Int(i),
                    None => {
                        let payload = bytes.len();
                        self.graph.push(Node::BigInt(bytes.into()), payload)?
                    }
                }
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Done {
        let length = match opcode {
            0x8c | b'U' | b'C' => u64::from(self.take::<1>()?[0]),
            b'X' | b'T' | b'B' => u64::from(u32::from_le_bytes(self.take()?)),
            _ => u64::from_le_bytes(self.take()?),
        };
        let bytes = self.bytes(length, MAX_PICKLE_STRING, "a text of the pickle, bytes,")?;
        let payload = bytes.len();
        let node = match opcode {
            b'X' | 0x8c | 0x8d => {
                let text = String::from_utf8(bytes).map_err(|_| self.fault("a text is not UTF-8"))?;
                Node::Str(text.into())
            }
            // Python 2's str: text where it can be.
            b'T' | b'U' => match String::from_utf8(bytes) {
                Ok(text) => Node::Str(text.into()),
                Err(e) => Node::Bytes(e.into_bytes().into()),
            },
            _ => Node::Bytes(bytes.into()),
        };
        let value = self.graph.push(node, payload)?;
        self.push(value)
    }

    fn container(&mut self, opcode: u8) -> Done {
        let items = match opcode {
            b't' | b'l' | b'd' | 0x91 => self.pop_mark()?,
            0x85..=0x87 => {
                let n = usize::from(opcode - 0x84);
                let start = self.reachable(n)?;
                self.stack.split_off(start)
            }
            _ => Vec::new(),
        };
        let payload = items.len() * ELEMENT;
        let node = match opcode {
            b')' | b't' | 0x85..=0x87 => Node::Tuple(items.into()),
            b']' | b'l' => Node::List(items),
            0x8f | 0x91 => Node::Set(items),
            _ => Node::Dict(self.pairs(&items)?),
        };
        let value = self.graph.push(node, payload)?;
        self.push(value)
    }

    fn pairs(&self, items: &[Value]) -> Result<Vec<(Value, Value)>, CheckpointError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.fault("a dictionary has a key without a value"));
        }
        Ok(pairs.iter().map(|&[k, v]| (k, v)).collect())
    }

    fn fill(&mut self, opcode: u8) -> Done {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let start = self.reachable(2)?;
                self.stack.split_off(start)
            }
            _ => self.pop_mark()?,
        };
        let Value::Node(target) = self.top()? else {
            return Err(self.fault("something is put into a plain value"));
        };
        self.graph.charge(items.len() * ELEMENT)?;
        self.graph.deepen(target, &items)?;
        if matches!(opcode, b's' | b'u') {
            let mut pairs = self.pairs(&items)?;
            match self.graph.node_mut(target) {
                Node::Dict(entries) => entries.append(&mut pairs),
                Node::Object(object) => object.entries.append(&mut pairs),
                _ => return Err(self.fault("an entry is set on something that is no dictionary")),
            }
        } else {
            match (opcode, self.graph.node_mut(target)) {
                (0x90, Node::Set(list)) | (b'a' | b'e', Node::List(list)) => list.extend(items),
                (b'a' | b'e', Node::Object(object)) => object.items.extend(items),
                _ => return Err(self.fault("an item is put into something that is no list")),
            }
        }
        Ok(())
    }

    fn memo(&mut self, opcode: u8) -> Done {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.take::<1>()?[0]),
            b'r' | b'j' => u32::from_le_bytes(self.take()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| self.fault("too many remembered values"))?,
        };
        if matches!(opcode, b'h' | b'j') {
            let value = *self
                .memo
                .get(&index)
                .ok_or_else(|| self.fault(format!("value {index} was never remembered")))?;
            return self.push(value);
        }
        self.graph.charge(2 * size_of::<(u32, Value)>())?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    // ---- classes and objects ----

    fn global(&mut self, module: &str, name: &str) -> Done {
        let module = globals::canonical(module);
        if module.len() + name.len() > MAX_PICKLE_GLOBAL {
            return Err(CheckpointError::Limit {
                what: "the name of a class, bytes,",
                limit: MAX_PICKLE_GLOBAL as u64,
            });
        }
        globals::check_name(module, name).map_err(|reason| CheckpointError::ForeignGlobal {
            name: format!("{module}.{name}").escape_debug().to_string(),
            action: "names",
            reason,
            offset: self.at,
        })?;
        let payload = size_of::<Global>() + module.len() + name.len();
        let global = Global { module: module.to_owned(), name: name.to_owned() };
        let value = self.graph.push(Node::Global(Box::new(global)), payload)?;
        self.push(value)
    }

    /// `call`: Python would call `class` (REDUCE); otherwise it would only make an instance (NEWOBJ), which no function can.
    fn object(&mut self, class: Value, args: Value, call: bool) -> Done {
        let Value::Node(id) = class else {
            return Err(self.fault("a plain value is called"));
        };
        let Node::Global(global) = self.graph.node(id) else {
            return Err(self.fault("something that is no class is called"));
        };
        if call {
            globals::check_call(&global.module, &global.name).map_err(|reason| {
                CheckpointError::ForeignGlobal {
                    name: global.to_string(),
                    action: "calls",
                    reason,
                    offset: self.at,
                }
            })?;
        }
        if self.graph.tuple(args).is_none() {
            return Err(self.fault("the arguments of a call are no tuple"));
        }
        let object = Object { class: id, args, state: None, items: Vec::new(), entries: Vec::new() };
        let value = self.graph.push(Node::Object(Box::new(object)), size_of::<Object>())?;
        self.push(value)
    }

    fn build(&mut self) -> Done {
        let state = self.pop()?;
        let Value::Node(target) = self.top()? else {
            return Err(self.fault("a plain value is given a state"));
        };
        self.graph.deepen(target, &[state])?;
        match self.graph.node_mut(target) {
            Node::Object(object) if object.state.is_none() => {
                object.state = Some(state);
                Ok(())
            }
            Node::Object(_) => Err(self.fault("an object is given a state twice")),
            _ => Err(self.fault("something that is no object is given a state")),
        }
    }

    /// PyTorch's persistent ids: ("storage", class, key, location, length[, view]), and ("module", class, file, source) in the
    /// legacy format, which stands for the class itself.
    fn persistent(&mut self) -> Done {
        let id = self.pop()?;
        let bad = |what: &str| CheckpointError::Pickle {
            offset: self.at,
            reason: format!(
                "a persistent id {what}; PyTorch writes (\"storage\", type, key, location, length)"
            ),
        };
        let tuple = self.graph.tuple(id).ok_or_else(|| bad("is no tuple"))?;
        let kind = tuple.first().and_then(|&v| self.graph.str(v)).ok_or_else(|| bad("has no kind"))?;
        match (kind, tuple) {
            ("module", &[_, class, _, _]) if self.graph.global(class).is_some() => self.push(class),
            ("storage", &[_, class, key, _, length]) | ("storage", &[_, class, key, _, length, _]) => {
                if self.graph.global(class).is_none() || self.graph.str(key).is_none() {
                    return Err(bad("has no storage type or key"));
                }
                if !matches!(length, Value::Int(0..)) {
                    return Err(bad("has no length"));
                }
                let value = self.graph.push(Node::Persistent(id), 0)?;
                self.push(value)
            }
            _ => Err(bad("has an unknown form")),
        }
    }

    // ---- stack ----

    fn push(&mut self, value: Value) -> Done {
        if self.stack.len() >= MAX_PICKLE_STACK {
            return Err(CheckpointError::Limit {
                what: "the pickle's stack",
                limit: MAX_PICKLE_STACK as u64,
            });
        }
        self.stack.push(value);
        Ok(())
    }

    /// Where the topmost `n` values begin; values below a mark are out of reach.
    fn reachable(&self, n: usize) -> Result<usize, CheckpointError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(start) if start >= floor => Ok(start),
            _ => Err(self.fault("the stack is empty")),
        }
    }

    fn top(&self) -> Result<Value, CheckpointError> {
        Ok(self.stack[self.reachable(1)?])
    }

    fn pop(&mut self) -> Result<Value, CheckpointError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>, CheckpointError> {
        let start = self.marks.pop().ok_or_else(|| self.fault("a container ends that never began"))?;
        Ok(self.stack.split_off(start))
    }

    // ---- bytes ----

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|e| CheckpointError::io(e, "its pickle"))?;
        self.offset += N as u64;
        Ok(bytes)
    }

    fn bytes(&mut self, length: u64, limit: usize, what: &'static str) -> Result<Vec<u8>, CheckpointError> {
        let length = usize::try_from(length)
            .ok()
            .filter(|&n| n <= limit)
            .ok_or(CheckpointError::Limit { what, limit: limit as u64 })?;
        // The node that will own these bytes charges for them; this guards what is allocated before it exists.
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).map_err(|e| CheckpointError::io(e, "its pickle"))?;
        self.offset += length as u64;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, CheckpointError> {
        let mut line = Vec::new();
        loop {
            match self.take::<1>()? {
                [b'\n'] => return String::from_utf8(line).map_err(|_| self.fault("a name is not UTF-8")),
                _ if line.len() >= MAX_PICKLE_GLOBAL => {
                    return Err(CheckpointError::Limit {
                        what: "a line of the pickle, bytes,",
                        limit: MAX_PICKLE_GLOBAL as u64,
                    });
                }
                [byte] => line.push(byte),
            }
        }
    }

    fn fault(&self, reason: impl Into<String>) -> CheckpointError {
        CheckpointError::Pickle { offset: self.at, reason: reason.into() }
    }
}

/// Little-endian two's complement of up to 8 bytes.
fn small(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 8 {
        return None;
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut full = [if negative { 0xff } else { 0 }; 8];
    full[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(full))
}

fn refused_name(opcode: u8) -> &'static str {
    match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        b'S' => "STRING",
        b'V' => "UNICODE",
        b'F' => "FLOAT",
        b'g' => "GET",
        b'p' => "PUT",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        _ => "unknown",
    }
}
