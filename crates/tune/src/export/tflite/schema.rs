//! The flatbuffer of a LiteRT (TensorFlow Lite) model, as far as an exporter needs it. Field, operator and option numbers:
//! `schema.fbs` of TensorFlow Lite, version 3.

use flatbuffers::{FlatBufferBuilder, TableFinishedWIPOffset, UnionWIPOffset, WIPOffset};

type Offset = WIPOffset<TableFinishedWIPOffset>;

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Elem {
    F32 = 0,
    F16 = 1,
    I32 = 2,
    I8 = 9,
}

/// Operators, by the schema's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Op {
    Add = 0,
    Concatenation = 2,
    Conv2d = 3,
    DepthwiseConv2d = 4,
    Dequantize = 6,
    Logistic = 14,
    MaxPool2d = 17,
    Mul = 18,
    Relu = 19,
    Relu6 = 21,
    Reshape = 22,
    Softmax = 25,
    Pad = 34,
    Transpose = 39,
    Mean = 40,
    Sub = 41,
    PadV2 = 60,
    Slice = 65,
    Sum = 74,
    ResizeNearestNeighbor = 97,
    Quantize = 114,
    HardSwish = 117,
    BatchMatmul = 126,
}

impl Op {
    /// Every operator that is written.
    pub const ALL: [Op; 23] = [
        Op::Add,
        Op::Concatenation,
        Op::Conv2d,
        Op::DepthwiseConv2d,
        Op::Dequantize,
        Op::Logistic,
        Op::MaxPool2d,
        Op::Mul,
        Op::Relu,
        Op::Relu6,
        Op::Reshape,
        Op::Softmax,
        Op::Pad,
        Op::Transpose,
        Op::Mean,
        Op::Sub,
        Op::PadV2,
        Op::Slice,
        Op::Sum,
        Op::ResizeNearestNeighbor,
        Op::Quantize,
        Op::HardSwish,
        Op::BatchMatmul,
    ];
}

/// Padding of windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Padding {
    Same = 0,
    Valid = 1,
}

/// What a convolution's result goes through at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fused {
    None = 0,
    Relu = 1,
    Relu6 = 3,
}

/// What an operator is told beside its inputs.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Options {
    None,
    Conv {
        padding: Padding,
        stride: (usize, usize),
        fused: Fused,
    },
    Depthwise {
        padding: Padding,
        stride: (usize, usize),
        fused: Fused,
    },
    Pool {
        padding: Padding,
        stride: usize,
        kernel: usize,
    },
    Softmax {
        beta: f32,
    },
    Concatenation {
        axis: i32,
    },
    /// The second matrix is taken transposed.
    MatmulTransposed,
}

/// Steps of a tensor's integers.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    /// One, or one for each index of `axis`.
    pub scales: Vec<f32>,
    /// As many as scales.
    pub zeros: Vec<i64>,
    /// The axis of the scales.
    pub axis: i32,
}

/// A tensor.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<i32>,
    pub elem: Elem,
    /// Its constant bytes; none where it is computed.
    pub data: Option<Vec<u8>>,
    pub steps: Option<Steps>,
}

/// An operator over tensors by their numbers.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Operator {
    pub op: Op,
    pub version: i32,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    pub options: Options,
}

/// A model of one graph.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Model {
    pub description: String,
    pub tensors: Vec<Tensor>,
    pub operators: Vec<Operator>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    /// Named blocks of text.
    pub metadata: Vec<(String, String)>,
}

/// The place of a table's field in its vtable.
const fn slot(field: u16) -> u16 {
    4 + 2 * field
}

impl Model {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(1 << 20);
        // Buffer 0 is empty by the format's rule: what is computed points at it.
        let mut buffers = vec![table(&mut b, |_| {})];
        let mut kinds: Vec<(Op, i32)> = Vec::new();
        let mut tensors = Vec::new();
        for tensor in &self.tensors {
            let buffer = match &tensor.data {
                Some(data) => {
                    buffers.push(buffer(&mut b, data));
                    buffers.len() as u32 - 1
                }
                None => 0,
            };
            tensors.push(write_tensor(&mut b, tensor, buffer));
        }
        let mut operators = Vec::new();
        for operator in &self.operators {
            let kind = (operator.op, operator.version);
            let code = kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
                kinds.push(kind);
                kinds.len() - 1
            });
            operators.push(write_operator(&mut b, operator, code as u32));
        }
        let subgraph = {
            let (tensors, operators) = (b.create_vector(&tensors), b.create_vector(&operators));
            let (inputs, outputs) = (b.create_vector(&self.inputs), b.create_vector(&self.outputs));
            let name = b.create_string("main");
            table(&mut b, |b| {
                b.push_slot_always(slot(0), tensors);
                b.push_slot_always(slot(1), inputs);
                b.push_slot_always(slot(2), outputs);
                b.push_slot_always(slot(3), operators);
                b.push_slot_always(slot(4), name);
            })
        };
        let codes: Vec<Offset> = kinds
            .iter()
            .map(|&(op, version)| {
                table(&mut b, |b| {
                    // Readers of before 2020 look at the byte, later ones at the larger of both.
                    b.push_slot::<i8>(slot(0), (op as i32).min(127) as i8, 0);
                    b.push_slot::<i32>(slot(2), version, 1);
                    b.push_slot::<i32>(slot(3), op as i32, 0);
                })
            })
            .collect();
        let mut metadata = Vec::new();
        for (name, text) in &self.metadata {
            buffers.push(buffer(&mut b, text.as_bytes()));
            let (name, place) = (b.create_string(name), buffers.len() as u32 - 1);
            metadata.push(table(&mut b, |b| {
                b.push_slot_always(slot(0), name);
                b.push_slot::<u32>(slot(1), place, 0);
            }));
        }
        let (codes, subgraphs) = (b.create_vector(&codes), b.create_vector(&[subgraph]));
        let (buffers, metadata) = (b.create_vector(&buffers), b.create_vector(&metadata));
        let description = b.create_string(&self.description);
        let model = table(&mut b, |b| {
            b.push_slot::<u32>(slot(0), 3, 0);
            b.push_slot_always(slot(1), codes);
            b.push_slot_always(slot(2), subgraphs);
            b.push_slot_always(slot(3), description);
            b.push_slot_always(slot(4), buffers);
            b.push_slot_always(slot(6), metadata);
        });
        b.finish(model, Some("TFL3"));
        b.finished_data().to_vec()
    }
}

fn table<'a>(b: &mut FlatBufferBuilder<'a>, fill: impl FnOnce(&mut FlatBufferBuilder<'a>)) -> Offset {
    let start = b.start_table();
    fill(b);
    let end = b.end_table(start);
    WIPOffset::new(end.value())
}

fn buffer(b: &mut FlatBufferBuilder<'_>, data: &[u8]) -> Offset {
    let data = b.create_vector(data);
    table(b, |b| b.push_slot_always(slot(0), data))
}

fn write_tensor(b: &mut FlatBufferBuilder<'_>, tensor: &Tensor, buffer: u32) -> Offset {
    let shape = b.create_vector(&tensor.shape);
    let name = b.create_string(&tensor.name);
    let steps = tensor.steps.as_ref().map(|steps| {
        let (scales, zeros) = (b.create_vector(&steps.scales), b.create_vector(&steps.zeros));
        table(b, |b| {
            b.push_slot_always(slot(2), scales);
            b.push_slot_always(slot(3), zeros);
            b.push_slot::<i32>(slot(6), steps.axis, 0);
        })
    });
    table(b, |b| {
        b.push_slot_always(slot(0), shape);
        b.push_slot::<i8>(slot(1), tensor.elem as i8, 0);
        b.push_slot::<u32>(slot(2), buffer, 0);
        b.push_slot_always(slot(3), name);
        if let Some(steps) = steps {
            b.push_slot_always(slot(4), steps);
        }
    })
}

fn write_operator(b: &mut FlatBufferBuilder<'_>, operator: &Operator, code: u32) -> Offset {
    let (inputs, outputs) = (b.create_vector(&operator.inputs), b.create_vector(&operator.outputs));
    let (kind, options) = write_options(b, operator.options);
    table(b, |b| {
        b.push_slot::<u32>(slot(0), code, 0);
        b.push_slot_always(slot(1), inputs);
        b.push_slot_always(slot(2), outputs);
        if let Some(options) = options {
            b.push_slot::<u8>(slot(3), kind, 0);
            b.push_slot_always(slot(4), options);
        }
    })
}

/// The union's number and table.
fn write_options(b: &mut FlatBufferBuilder<'_>, options: Options) -> (u8, Option<WIPOffset<UnionWIPOffset>>) {
    let window = |b: &mut FlatBufferBuilder<'_>, padding: Padding, (height, width): (usize, usize)| {
        b.push_slot::<i8>(slot(0), padding as i8, 0);
        b.push_slot::<i32>(slot(1), width as i32, 0);
        b.push_slot::<i32>(slot(2), height as i32, 0);
    };
    let (kind, made) = match options {
        Options::None => return (0, None),
        Options::Conv { padding, stride, fused } => {
            let made = table(b, |b| {
                window(b, padding, stride);
                b.push_slot::<i8>(slot(3), fused as i8, 0);
            });
            (1, made)
        }
        Options::Depthwise { padding, stride, fused } => {
            let made = table(b, |b| {
                window(b, padding, stride);
                b.push_slot::<i32>(slot(3), 1, 0);
                b.push_slot::<i8>(slot(4), fused as i8, 0);
            });
            (2, made)
        }
        Options::Pool { padding, stride, kernel } => {
            let made = table(b, |b| {
                window(b, padding, (stride, stride));
                b.push_slot::<i32>(slot(3), kernel as i32, 0);
                b.push_slot::<i32>(slot(4), kernel as i32, 0);
            });
            (5, made)
        }
        Options::Softmax { beta } => (9, table(b, |b| b.push_slot::<f32>(slot(0), beta, 0.0))),
        Options::Concatenation { axis } => (10, table(b, |b| b.push_slot::<i32>(slot(0), axis, 0))),
        Options::MatmulTransposed => (101, table(b, |b| b.push_slot::<bool>(slot(1), true, false))),
    };
    (kind, Some(WIPOffset::new(made.value())))
}
