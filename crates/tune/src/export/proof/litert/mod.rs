//! A LiteRT file as its user runs it: read back and computed operator by operator, as TensorFlow Lite specifies them.
//!
//! Nothing here knows the network that was written, the writer, or the engine's kernels: plain loops over what the file says.
//! The tests hold it against LiteRT's own interpreter on the same files.

mod convolution;
mod elementwise;
mod gemm;
mod shapes;
mod window;

use std::sync::Arc;

use half::f16;

use super::ProofError;
use crate::export::tflite::read;
use crate::export::tflite::schema::{Elem, Model, Op, Operator, Options, Tensor};

/// A tensor's elements. float16 constants are widened when the file is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// float32.
    F32(Vec<f32>),
    /// int8.
    I8(Vec<i8>),
    /// int32.
    I32(Vec<i32>),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::I32(v) => v.len(),
        }
    }

    fn floats(&self) -> Result<&[f32], ProofError> {
        match self {
            Data::F32(values) => Ok(values),
            _ => Err(broken("integers where float32 is due")),
        }
    }

    fn whole(&self) -> Result<&[i32], ProofError> {
        match self {
            Data::I32(values) => Ok(values),
            _ => Err(broken("no int32 where it is due")),
        }
    }
}

fn broken(reason: impl std::fmt::Display) -> ProofError {
    ProofError::Runtime(reason.to_string())
}

/// A loaded file.
pub struct Interpreter {
    model: Model,
    shapes: Vec<Vec<usize>>,
    constants: Vec<Option<Data>>,
    /// The last operator that reads a tensor: then its memory is given back.
    last_use: Vec<usize>,
    pool: Arc<rayon::ThreadPool>,
}

impl Interpreter {
    /// Reads a file.
    ///
    /// # Errors
    /// It is damaged, or holds what this program does not write.
    pub fn load(bytes: &[u8], pool: &Arc<rayon::ThreadPool>) -> Result<Interpreter, ProofError> {
        let model = read::decode(bytes).map_err(broken)?;
        let shapes = model.tensors.iter().map(|t| t.shape.iter().map(|&d| d as usize).collect()).collect();
        let constants = model.tensors.iter().map(constant).collect();
        let mut last_use = vec![0; model.tensors.len()];
        for (i, operator) in model.operators.iter().enumerate() {
            for &tensor in &operator.inputs {
                last_use[tensor as usize] = i;
            }
        }
        for &output in &model.outputs {
            last_use[output as usize] = usize::MAX;
        }
        Ok(Interpreter { model, shapes, constants, last_use, pool: Arc::clone(pool) })
    }

    /// The file.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The first input's shape.
    ///
    /// # Errors
    /// There is none.
    pub fn input_shape(&self) -> Result<&[usize], ProofError> {
        let input = self.model.inputs.first().ok_or_else(|| broken("it has no input"))?;
        Ok(&self.shapes[*input as usize])
    }

    /// Computes the first output: its shape and values.
    ///
    /// # Errors
    /// The input's length; an operator, its options or its tensors' types that are not as the writer makes them.
    pub fn run(&self, input: Vec<f32>) -> Result<(&[usize], Vec<f32>), ProofError> {
        if self.input_shape()?.iter().product::<usize>() != input.len() {
            return Err(broken(format!("its input is {:?}", self.input_shape()?)));
        }
        let mut values: Vec<Option<Data>> = vec![None; self.model.tensors.len()];
        values[self.model.inputs[0] as usize] = Some(Data::F32(input));
        for (i, operator) in self.model.operators.iter().enumerate() {
            let [output] = operator.outputs[..] else {
                return Err(broken(format!("{:?} with {} outputs", operator.op, operator.outputs.len())));
            };
            let made = self.pool.install(|| Step { file: self, operator, values: &values }.run())?;
            let expected: usize = self.shapes[output as usize].iter().product();
            if made.len() != expected {
                return Err(broken(format!(
                    "{:?} gives {} values for {expected} places",
                    operator.op,
                    made.len()
                )));
            }
            values[output as usize] = Some(made);
            for &read in &operator.inputs {
                if self.last_use[read as usize] == i {
                    values[read as usize] = None;
                }
            }
        }
        let output = *self.model.outputs.first().ok_or_else(|| broken("it has no output"))? as usize;
        match values.swap_remove(output) {
            Some(Data::F32(values)) => Ok((&self.shapes[output], values)),
            _ => Err(broken("its output is not float32")),
        }
    }
}

fn constant(tensor: &Tensor) -> Option<Data> {
    let bytes = tensor.data.as_ref()?;
    Some(match tensor.elem {
        Elem::F32 => Data::F32(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Elem::F16 => Data::F32(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect()),
        Elem::I32 => Data::I32(bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect()),
        Elem::I8 => Data::I8(bytes.iter().map(|&b| b as i8).collect()),
    })
}

/// One operator and the values so far.
struct Step<'a> {
    file: &'a Interpreter,
    operator: &'a Operator,
    values: &'a [Option<Data>],
}

impl Step<'_> {
    fn tensor(&self, place: usize) -> Result<usize, ProofError> {
        let index = self.operator.inputs.get(place);
        index.map(|&i| i as usize).ok_or_else(|| broken(format!("{:?} lacks an input", self.operator.op)))
    }

    fn shape(&self, place: usize) -> Result<&[usize], ProofError> {
        Ok(&self.file.shapes[self.tensor(place)?])
    }

    fn shape4(&self, place: usize) -> Result<[usize; 4], ProofError> {
        let shape = self.shape(place)?;
        <[usize; 4]>::try_from(shape).map_err(|_| broken(format!("{:?} of {shape:?}", self.operator.op)))
    }

    fn output_tensor(&self) -> &Tensor {
        &self.file.model.tensors[self.operator.outputs[0] as usize]
    }

    fn output_shape(&self) -> &[usize] {
        &self.file.shapes[self.operator.outputs[0] as usize]
    }

    fn data(&self, place: usize) -> Result<&Data, ProofError> {
        let index = self.tensor(place)?;
        self.file.constants[index]
            .as_ref()
            .or(self.values[index].as_ref())
            .ok_or_else(|| broken(format!("{:?} reads what nothing has made", self.operator.op)))
    }

    fn floats(&self, place: usize) -> Result<&[f32], ProofError> {
        self.data(place)?.floats()
    }

    /// The one scale and zero point of a tensor.
    fn steps(&self, tensor: &Tensor) -> Result<(f32, i32), ProofError> {
        let steps = tensor.steps.as_ref().ok_or_else(|| broken(format!("{} has no steps", tensor.name)))?;
        Ok((steps.scales[0], steps.zeros[0] as i32))
    }

    fn input_steps(&self, place: usize) -> Result<(f32, i32), ProofError> {
        self.steps(&self.file.model.tensors[self.tensor(place)?])
    }

    fn run(&self) -> Result<Data, ProofError> {
        match self.operator.op {
            Op::Conv2d | Op::DepthwiseConv2d => self.convolution(),
            Op::MaxPool2d => self.max_pool(),
            Op::Add => self.pairs(|a, b| a + b),
            Op::Sub => self.pairs(|a, b| a - b),
            Op::Mul => self.pairs(|a, b| a * b),
            Op::Logistic => self.each(|v| 1.0 / (1.0 + (-v).exp())),
            Op::Relu => self.each(|v| v.max(0.0)),
            Op::Relu6 => self.each(|v| v.clamp(0.0, 6.0)),
            Op::HardSwish => self.each(|v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0),
            Op::Softmax => self.softmax(),
            Op::Quantize => self.quantize(),
            Op::Dequantize => self.dequantize(),
            Op::Reshape => Ok(self.data(0)?.clone()),
            Op::Concatenation => self.concatenation(),
            Op::Slice => self.slice(),
            Op::Transpose => self.transpose(),
            Op::Pad => self.pad(),
            Op::PadV2 => self.pad(),
            Op::Mean => self.reduce(true),
            Op::Sum => self.reduce(false),
            Op::ResizeNearestNeighbor => self.resize_nearest(),
            Op::BatchMatmul => self.matmul(self.operator.options == Options::MatmulTransposed),
        }
    }
}
