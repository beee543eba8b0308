//! A graph in the making: nodes and initialisers with names that are unique.

use half::f16;

use super::proto::{
    AttributeProto, Dimension, GraphProto, NodeProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto,
};

/// Element types, by ONNX's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Elem {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
    F16 = 10,
    F64 = 11,
}

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this many.
    Fixed(usize),
    /// As many as the caller gives; equal names mean equal numbers.
    Free(&'static str),
}

/// An attribute of a node.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Attr {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

/// The graph so far. Methods that make a value return its name.
#[derive(Default)]
pub struct Builder {
    nodes: Vec<NodeProto>,
    initialisers: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    count: usize,
}

impl Builder {
    /// An input.
    pub fn input(&mut self, name: &str, elem: Elem, shape: &[Dim]) -> String {
        self.inputs.push(value_info(name, elem, shape));
        name.to_owned()
    }

    /// Makes `value` an output of that name and shape.
    pub fn output(&mut self, name: &str, value: &str, elem: Elem, shape: &[Dim]) {
        self.node("Identity", name, &[value], &[name], &[]);
        self.outputs.push(value_info(name, elem, shape));
    }

    /// A node with one output and a name made from its kind.
    pub fn op(&mut self, kind: &str, inputs: &[&str]) -> String {
        self.op_with(kind, inputs, &[])
    }

    /// As [`Builder::op`], with attributes.
    pub fn op_with(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        let name = self.fresh(kind);
        self.node(kind, &name, inputs, &[&name], attributes);
        name
    }

    /// As [`Builder::op_with`], with several outputs.
    pub fn op_many(
        &mut self,
        kind: &str,
        inputs: &[&str],
        attributes: &[(&str, Attr)],
        outputs: usize,
    ) -> Vec<String> {
        let name = self.fresh(kind);
        let outputs: Vec<String> = (0..outputs).map(|i| format!("{name}.{i}")).collect();
        let texts: Vec<&str> = outputs.iter().map(String::as_str).collect();
        self.node(kind, &name, inputs, &texts, attributes);
        outputs
    }

    /// A node of a given name, whose output has that name too.
    pub fn named(&mut self, name: &str, kind: &str, inputs: &[&str], attributes: &[(&str, Attr)]) -> String {
        let output = format!("{name}.out");
        self.node(kind, name, inputs, &[&output], attributes);
        output
    }

    fn node(
        &mut self,
        kind: &str,
        name: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, Attr)],
    ) {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&s| s.to_owned()).collect(),
            output: outputs.iter().map(|&s| s.to_owned()).collect(),
            name: name.to_owned(),
            op_type: kind.to_owned(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
        });
    }

    fn fresh(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("/{kind}_{}", self.count)
    }

    /// An initialiser of a given name.
    pub fn tensor(&mut self, name: &str, elem: Elem, dims: &[usize], bytes: Vec<u8>) -> String {
        self.initialisers.push(TensorProto {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: elem as i32,
            name: name.to_owned(),
            raw_data: bytes,
        });
        name.to_owned()
    }

    /// Numbers as float32 or float16.
    pub fn floats(&mut self, name: &str, elem: Elem, dims: &[usize], values: &[f32]) -> String {
        let bytes = match elem {
            Elem::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        self.tensor(name, elem, dims, bytes)
    }

    /// A nameless constant.
    pub fn constant(&mut self, dims: &[usize], values: &[f32]) -> String {
        let name = self.fresh("constant");
        self.floats(&name, Elem::F32, dims, values)
    }

    /// A single number of the type.
    pub fn scalar(&mut self, elem: Elem, value: f64) -> String {
        let name = self.fresh("constant");
        let bytes = match elem {
            Elem::F32 => (value as f32).to_le_bytes().to_vec(),
            Elem::F64 => value.to_le_bytes().to_vec(),
            Elem::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
            Elem::I32 => (value as i32).to_le_bytes().to_vec(),
            Elem::I64 => (value as i64).to_le_bytes().to_vec(),
            Elem::U8 => vec![value as u8],
            Elem::I8 => (value as i8).to_le_bytes().to_vec(),
        };
        self.tensor(&name, elem, &[], bytes)
    }

    /// A vector of int64.
    pub fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh("constant");
        self.tensor(&name, Elem::I64, &[values.len()], values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// `x` as another type.
    pub fn cast(&mut self, x: &str, elem: Elem) -> String {
        self.op_with("Cast", &[x], &[("to", Attr::Int(elem as i64))])
    }

    /// `x[.., start..end, ..]` along one axis.
    pub fn slice(&mut self, x: &str, axis: i64, start: i64, end: i64) -> String {
        let (starts, ends, axes) = (self.ints(&[start]), self.ints(&[end]), self.ints(&[axis]));
        self.op("Slice", &[x, &starts, &ends, &axes])
    }

    /// Parts of these sizes along one axis.
    pub fn split(&mut self, x: &str, axis: i64, sizes: &[i64]) -> Vec<String> {
        let lengths = self.ints(sizes);
        self.op_many("Split", &[x, &lengths], &[("axis", Attr::Int(axis))], sizes.len())
    }

    /// `x` in another shape: 0 keeps a dimension, -1 takes what is left.
    pub fn reshape(&mut self, x: &str, shape: &[i64]) -> String {
        let shape = self.ints(shape);
        self.op("Reshape", &[x, &shape])
    }

    /// One after the other along an axis.
    pub fn concat(&mut self, xs: &[&str], axis: i64) -> String {
        self.op_with("Concat", xs, &[("axis", Attr::Int(axis))])
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op_with("Transpose", &[x], &[("perm", Attr::Ints(order.to_vec()))])
    }

    /// The finished graph.
    pub fn finish(self, name: &str) -> GraphProto {
        GraphProto {
            node: self.nodes,
            name: name.to_owned(),
            initializer: self.initialisers,
            input: self.inputs,
            output: self.outputs,
        }
    }
}

fn attribute(name: &str, value: &Attr) -> AttributeProto {
    let mut out = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
    match value {
        Attr::Float(f) => (out.f, out.kind) = (Some(*f), 1),
        Attr::Int(i) => (out.i, out.kind) = (Some(*i), 2),
        Attr::Text(s) => (out.s, out.kind) = (Some(s.as_bytes().to_vec()), 3),
        Attr::Ints(ints) => {
            out.ints.clone_from(ints);
            out.kind = 7;
        }
    }
    out
}

fn value_info(name: &str, elem: Elem, shape: &[Dim]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(value) => Dimension { value: Some(*value as i64), param: None },
            Dim::Free(name) => Dimension { value: None, param: Some((*name).to_owned()) },
        })
        .collect();
    let tensor = TensorTypeProto { elem_type: elem as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.to_owned(), kind: Some(TypeProto { tensor: Some(tensor) }) }
}
