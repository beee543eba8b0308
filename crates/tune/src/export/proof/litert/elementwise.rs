//! Operators on each element, or on pairs, with numpy's broadcasting.

use rayon::prelude::*;

use super::shapes::strides;
use super::{Data, Step, broken};
use crate::export::proof::ProofError;
use crate::export::tflite::schema::Options;

/// Elements that a thread takes at a time.
const CHUNK: usize = 1 << 14;

impl Step<'_> {
    pub(super) fn each(&self, f: impl Fn(f32) -> f32 + Sync + Send) -> Result<Data, ProofError> {
        let x = self.floats(0)?;
        Ok(Data::F32(x.par_iter().with_min_len(CHUNK).map(|&v| f(v)).collect()))
    }

    pub(super) fn pairs(&self, f: impl Fn(f32, f32) -> f32 + Sync + Send) -> Result<Data, ProofError> {
        let (a, b) = (self.floats(0)?, self.floats(1)?);
        let (from_a, from_b, to) = (self.shape(0)?, self.shape(1)?, self.output_shape());
        if from_a == from_b {
            let pairs = a.par_iter().with_min_len(CHUNK).zip(b);
            return Ok(Data::F32(pairs.map(|(&a, &b)| f(a, b)).collect()));
        }
        let (along_a, along_b) = (repeated(from_a, to)?, repeated(from_b, to)?);
        let mut at = vec![0; to.len()];
        let mut out = Vec::with_capacity(to.iter().product());
        for _ in 0..to.iter().product::<usize>() {
            let place = |along: &[usize]| at.iter().zip(along).map(|(i, s)| i * s).sum::<usize>();
            out.push(f(a[place(&along_a)], b[place(&along_b)]));
            advance(&mut at, to);
        }
        Ok(Data::F32(out))
    }

    /// Over the last axis.
    pub(super) fn softmax(&self) -> Result<Data, ProofError> {
        let Options::Softmax { beta } = self.operator.options else {
            return Err(broken("a softmax without its factor"));
        };
        let (x, len) = (self.floats(0)?, self.shape(0)?.last().copied().unwrap_or(1).max(1));
        let mut out = x.to_vec();
        out.par_chunks_mut(len).with_min_len(64).for_each(|row| {
            let most = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
            row.iter_mut().for_each(|v| *v = ((*v - most) * beta).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        });
        Ok(Data::F32(out))
    }

    pub(super) fn quantize(&self) -> Result<Data, ProofError> {
        let (scale, zero) = self.steps(self.output_tensor())?;
        let round = |&v: &f32| ((v / scale).round() as i32).saturating_add(zero).clamp(-128, 127) as i8;
        Ok(Data::I8(self.floats(0)?.par_iter().with_min_len(CHUNK).map(round).collect()))
    }

    pub(super) fn dequantize(&self) -> Result<Data, ProofError> {
        match self.data(0)? {
            // float16, widened when it was read.
            Data::F32(values) => Ok(Data::F32(values.clone())),
            Data::I8(values) => {
                let (scale, zero) = self.input_steps(0)?;
                let widen = |&q: &i8| scale * (i32::from(q) - zero) as f32;
                Ok(Data::F32(values.par_iter().with_min_len(CHUNK).map(widen).collect()))
            }
            Data::I32(_) => Err(broken("int32 to dequantise")),
        }
    }
}

/// How far apart an operand's elements lie along the output's axes: 0 along those that it is repeated along.
fn repeated(from: &[usize], to: &[usize]) -> Result<Vec<usize>, ProofError> {
    let missing = to.len().checked_sub(from.len()).ok_or_else(|| broken("an operand of more axes"))?;
    let own = strides(from);
    (0..to.len())
        .map(|axis| match axis.checked_sub(missing) {
            None => Ok(0),
            Some(i) if from[i] == 1 => Ok(0),
            Some(i) if from[i] == to[axis] => Ok(own[i]),
            Some(_) => Err(broken(format!("{from:?} does not fit {to:?}"))),
        })
        .collect()
}

/// To the next place in the order of memory.
pub(super) fn advance(at: &mut [usize], shape: &[usize]) {
    for (i, &len) in at.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < len {
            return;
        }
        *i = 0;
    }
}
