//! The inert objects of one pickle.

use super::super::error::CheckpointError;
use crate::limits::{MAX_PICKLE_DEPTH, MAX_PICKLE_MEMORY};

/// Index of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// A value: small ones stand for themselves, the others are nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Node(NodeId),
}

/// A class or function by name; nothing is ever imported.
#[derive(Debug, PartialEq, Eq)]
pub struct Global {
    pub module: String,
    pub name: String,
}

impl std::fmt::Display for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// What a call or an instance would have been: its class, arguments, and what was set on it afterwards.
#[derive(Debug)]
pub struct Object {
    /// A [`Node::Global`].
    pub class: NodeId,
    /// A tuple.
    pub args: Value,
    /// Argument of BUILD.
    pub state: Option<Value>,
    /// Appended values (list-like classes).
    pub items: Vec<Value>,
    /// Set entries (dict-like classes).
    pub entries: Vec<(Value, Value)>,
}

#[derive(Debug)]
pub enum Node {
    /// An integer beyond i64: little-endian two's complement.
    BigInt(Box<[u8]>),
    Str(Box<str>),
    Bytes(Box<[u8]>),
    List(Vec<Value>),
    Tuple(Box<[Value]>),
    Set(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Box<Global>),
    Object(Box<Object>),
    /// PyTorch's reference to a storage: a tuple.
    Persistent(Value),
}

/// Nodes of one pickle, within a memory budget.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    depths: Vec<u16>,
    charged: usize,
}

/// What one more element in a growing vector may cost: itself, and the vector's spare capacity.
pub const ELEMENT: usize = 2 * size_of::<Value>();

impl Graph {
    /// Takes `bytes` from the memory budget.
    pub fn charge(&mut self, bytes: usize) -> Result<(), CheckpointError> {
        self.charged = self.charged.saturating_add(bytes);
        if self.charged > MAX_PICKLE_MEMORY {
            return Err(CheckpointError::Limit {
                what: "memory for the pickle's objects, bytes,",
                limit: MAX_PICKLE_MEMORY as u64,
            });
        }
        Ok(())
    }

    /// Adds a node; `payload` are the bytes that it owns beside itself.
    pub fn push(&mut self, node: Node, payload: usize) -> Result<Value, CheckpointError> {
        self.charge(2 * (size_of::<Node>() + size_of::<u16>()) + payload)?;
        let depth = match &node {
            Node::Tuple(items) => self.depth_over(items)?,
            Node::List(items) | Node::Set(items) => self.depth_over(items)?,
            Node::Dict(entries) => {
                let mut depth = 1;
                for (k, v) in entries {
                    depth = depth.max(self.depth_over(&[*k, *v])?);
                }
                depth
            }
            Node::Object(object) => self.depth_over(&[object.args])?,
            Node::Persistent(id) => self.depth_over(&[*id])?,
            Node::BigInt(_) | Node::Str(_) | Node::Bytes(_) | Node::Global(_) => 0,
        };
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("the memory budget holds fewer than 2^32 nodes"));
        self.nodes.push(node);
        self.depths.push(depth);
        Ok(Value::Node(id))
    }

    fn depth_over(&self, children: &[Value]) -> Result<u16, CheckpointError> {
        let below = children.iter().map(|&c| self.depth(c)).max().unwrap_or(0);
        if below >= MAX_PICKLE_DEPTH {
            return Err(CheckpointError::Limit {
                what: "the pickle's nesting",
                limit: u64::from(MAX_PICKLE_DEPTH),
            });
        }
        Ok(below + 1)
    }

    fn depth(&self, v: Value) -> u16 {
        match v {
            Value::Node(NodeId(i)) => self.depths[i as usize],
            _ => 0,
        }
    }

    /// Notes that `children` were put into `parent` after it was made.
    pub fn deepen(&mut self, parent: NodeId, children: &[Value]) -> Result<(), CheckpointError> {
        let depth = self.depth_over(children)?;
        let known = &mut self.depths[parent.0 as usize];
        *known = depth.max(*known);
        Ok(())
    }

    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The node behind an id, to put something into it.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// The node behind a value, where it is one.
    pub fn get(&self, v: Value) -> Option<&Node> {
        match v {
            Value::Node(id) => Some(self.node(id)),
            _ => None,
        }
    }

    /// All references to storages, in the order in which the pickle made them.
    pub fn persistent(&self) -> impl Iterator<Item = Value> {
        (0u32..)
            .zip(&self.nodes)
            .filter(|(_, n)| matches!(n, Node::Persistent(_)))
            .map(|(i, _)| Value::Node(NodeId(i)))
    }
}
