//! Operators that move elements, and sums over axes.

use super::elementwise::advance;
use super::gemm::Packed;
use super::{Data, Step, broken};
use crate::export::proof::ProofError;
use crate::export::tflite::schema::Options;

/// Elements between neighbours along each axis.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Copies the elements that `place(index)` names, for every index of `shape`; `fill` where it names none.
fn gather<T: Copy>(x: &[T], shape: &[usize], fill: T, place: impl Fn(&[usize]) -> Option<usize>) -> Vec<T> {
    let mut at = vec![0; shape.len()];
    (0..shape.iter().product::<usize>())
        .map(|_| {
            let value = place(&at).and_then(|i| x.get(i)).copied().unwrap_or(fill);
            advance(&mut at, shape);
            value
        })
        .collect()
}

impl Step<'_> {
    pub(super) fn concatenation(&self) -> Result<Data, ProofError> {
        let Options::Concatenation { axis } = self.operator.options else {
            return Err(broken("a concatenation without its axis"));
        };
        let to = self.output_shape();
        let axis = usize::try_from(axis).ok().filter(|a| *a < to.len()).ok_or_else(|| broken("an axis"))?;
        let outer: usize = to[..axis].iter().product();
        let mut parts = Vec::new();
        for place in 0..self.operator.inputs.len() {
            let x = self.floats(place)?;
            parts.push((x, x.len() / outer.max(1)));
        }
        let mut out = Vec::with_capacity(to.iter().product());
        for i in 0..outer {
            for (x, len) in &parts {
                out.extend_from_slice(&x[i * len..(i + 1) * len]);
            }
        }
        Ok(Data::F32(out))
    }

    pub(super) fn slice(&self) -> Result<Data, ProofError> {
        let (from, to) = (self.shape(0)?, self.output_shape());
        let begin: Vec<usize> = self.data(1)?.whole()?.iter().map(|&v| v.max(0) as usize).collect();
        let fits = |axis: usize| begin.get(axis).is_some_and(|b| b + to[axis] <= from[axis]);
        if from.len() != to.len() || !(0..to.len()).all(fits) {
            return Err(broken(format!("{to:?} from {begin:?} of {from:?}")));
        }
        let along = strides(from);
        let place =
            |at: &[usize]| Some(at.iter().zip(&begin).zip(&along).map(|((i, b), s)| (i + b) * s).sum());
        Ok(Data::F32(gather(self.floats(0)?, to, 0.0, place)))
    }

    pub(super) fn transpose(&self) -> Result<Data, ProofError> {
        let (from, to) = (self.shape(0)?, self.output_shape());
        let order: Vec<usize> = self.data(1)?.whole()?.iter().map(|&v| v.max(0) as usize).collect();
        let fits = |axis: usize| order.get(axis).and_then(|&o| from.get(o)) == Some(&to[axis]);
        if from.len() != to.len() || !(0..to.len()).all(fits) {
            return Err(broken(format!("{from:?} in the order {order:?}")));
        }
        let along = strides(from);
        let place = |at: &[usize]| Some(at.iter().zip(&order).map(|(i, &o)| i * along[o]).sum());
        Ok(Data::F32(gather(self.floats(0)?, to, 0.0, place)))
    }

    /// Pads with 0, with what stands for 0, or with what the third input says.
    pub(super) fn pad(&self) -> Result<Data, ProofError> {
        let (from, to) = (self.shape(0)?, self.output_shape());
        let pads = self.data(1)?.whole()?;
        let before: Vec<usize> = pads.iter().step_by(2).map(|&v| v.max(0) as usize).collect();
        if before.len() != from.len() || to.len() != from.len() {
            return Err(broken(format!("{} pads for {from:?}", pads.len())));
        }
        let along = strides(from);
        let place = |at: &[usize]| {
            let mut sum = 0;
            for (((i, before), from), along) in at.iter().zip(&before).zip(from).zip(&along) {
                sum += i.checked_sub(*before).filter(|i| i < from)? * along;
            }
            Some(sum)
        };
        Ok(match self.data(0)? {
            Data::F32(x) => {
                let fill = if self.operator.inputs.len() > 2 { self.floats(2)?[0] } else { 0.0 };
                Data::F32(gather(x, to, fill, place))
            }
            Data::I8(x) => {
                let (_, zero) = self.input_steps(0)?;
                Data::I8(gather(x, to, zero.clamp(-128, 127) as i8, place))
            }
            Data::I32(_) => return Err(broken("int32 to pad")),
        })
    }

    /// The sum or the mean over the axes that the second input lists, which are neighbours.
    pub(super) fn reduce(&self, mean: bool) -> Result<Data, ProofError> {
        let from = self.shape(0)?;
        let axes: Vec<usize> = self.data(1)?.whole()?.iter().map(|&v| v.max(0) as usize).collect();
        let (Some(&first), true) =
            (axes.first(), axes.windows(2).all(|w| w[1] == w[0] + 1) && axes.iter().all(|a| *a < from.len()))
        else {
            return Err(broken(format!("axes {axes:?} of {from:?}")));
        };
        let count: usize = axes.iter().map(|&a| from[a]).product();
        let inner: usize = from[first + axes.len()..].iter().product();
        let mut out = Vec::new();
        for block in self.floats(0)?.chunks_exact((count * inner).max(1)) {
            let mut sums = vec![0.0f64; inner];
            for line in block.chunks_exact(inner) {
                sums.iter_mut().zip(line).for_each(|(sum, &v)| *sum += f64::from(v));
            }
            let share = if mean { count as f64 } else { 1.0 };
            out.extend(sums.iter().map(|sum| (sum / share) as f32));
        }
        Ok(Data::F32(out))
    }

    pub(super) fn resize_nearest(&self) -> Result<Data, ProofError> {
        let ([n, h, w, c], to) = (self.shape4(0)?, self.output_shape());
        let &[_, out_h, out_w, _] = to else { return Err(broken(format!("an enlargement to {to:?}"))) };
        let x = self.floats(0)?;
        let mut out = Vec::with_capacity(to.iter().product());
        for image in 0..n {
            for y in 0..out_h {
                for column in 0..out_w {
                    let from = ((image * h + y * h / out_h) * w + column * w / out_w) * c;
                    out.extend_from_slice(&x[from..from + c]);
                }
            }
        }
        Ok(Data::F32(out))
    }

    /// Matrices times matrices, `[…, rows, inner]` and `[…, inner, columns]` (with `transposed` `[…, columns, inner]`).
    pub(super) fn matmul(&self, transposed: bool) -> Result<Data, ProofError> {
        let (a, b, to) = (self.floats(0)?, self.floats(1)?, self.output_shape());
        let (&[.., rows, columns], &[.., inner]) = (to, self.shape(0)?) else {
            return Err(broken("a product of vectors"));
        };
        let count: usize = to[..to.len() - 2].iter().product();
        if a.len() != count * rows * inner || b.len() != count * inner * columns {
            return Err(broken(format!("a product of {} and {} values to {to:?}", a.len(), b.len())));
        }
        let mut out = vec![0.0; count * rows * columns];
        for (i, out) in out.chunks_exact_mut((rows * columns).max(1)).enumerate() {
            let right = &b[i * inner * columns..][..inner * columns];
            let at = |k: usize, c: usize| right[if transposed { c * inner + k } else { k * columns + c }];
            Packed::new(inner, columns, at).all_rows(&a[i * rows * inner..][..rows * inner], out);
        }
        Ok(Data::F32(out))
    }
}
