//! Attention as batched products: scores, softmax, mixture; the backward pass forms the probabilities again.
//!
//! Some images at a time, so that the scores between two kernels stay in the GPU's second-level cache.

use crate::graph::Attention;

use super::super::sources::MATMUL;
use super::super::{CudaError, Precision, Stream, Tensor};
use super::executor::Executor;
use super::structures::{Operand, Product};
use super::workspace::Part;

/// Scores formed at once, about.
const SCORES_AT_ONCE: usize = 6 << 20;

/// Elements from one row of scores to the next.
pub(super) fn pitch(run: usize) -> usize {
    run.next_multiple_of(8)
}

/// Images whose scores are formed at once.
pub(super) fn images_at_once(a: &Attention, images: usize, run: usize) -> usize {
    (SCORES_AT_ONCE / (a.areas * a.heads * run * pitch(run))).clamp(1, images)
}

/// The sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    attention: Attention,
    run: usize,
    batch: usize,
    v: usize,
}

impl Sizes {
    fn group(&self) -> usize {
        2 * self.attention.key_dim + self.attention.value_dim
    }

    /// Channels from `start` on of each head's group of `group`, as an operand.
    fn part(&self, tensor: &Tensor, group: usize, start: usize) -> Operand {
        Operand {
            data: tensor.address + (start * tensor.precision.bytes()) as u64,
            batch: (self.run * tensor.pixel_stride) as i64,
            head: group as i64,
            stride: tensor.pixel_stride as i32,
        }
    }

    /// A table of scores.
    fn table(&self, address: u64) -> Operand {
        let len = (self.run * pitch(self.run)) as i64;
        let heads = self.attention.heads as i64;
        Operand { data: address, batch: heads * len, head: len, stride: pitch(self.run) as i32 }
    }

    fn rows(&self) -> usize {
        self.batch * self.attention.heads * self.run
    }
}

impl Executor {
    /// For each group of images: the sizes, and the tensors' parts.
    fn attention_parts(
        &self,
        a: Attention,
        tensors: &[Tensor],
        mut each: impl FnMut(Sizes, &[Tensor]) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        let [n, h, w, _] = tensors[0].shape;
        let run = h * w / a.areas;
        let at_once = images_at_once(&a, n, run);
        let vector = self.precision.vector();
        let fits = |t: &Tensor| t.allows(vector);
        let dims = a.key_dim.is_multiple_of(vector) && a.value_dim.is_multiple_of(vector);
        let v = if self.precision == Precision::Bf16 && dims && tensors.iter().all(fits) { 8 } else { 1 };
        for first in (0..n).step_by(at_once) {
            let images = at_once.min(n - first);
            let parts: Vec<Tensor> = tensors
                .iter()
                .map(|t| {
                    let skip = first * h * w * t.pixel_stride * t.precision.bytes();
                    let [_, _, _, c] = t.shape;
                    Tensor { address: t.address + skip as u64, shape: [images, h, w, c], ..*t }
                })
                .collect();
            each(Sizes { attention: a, run, batch: images * a.areas, v }, &parts)?;
        }
        Ok(())
    }

    fn product(&self, stream: &Stream, kind: &str, s: &Sizes, p: Product) -> Result<(), CudaError> {
        let name = format!("{kind}_{}_{}", self.precision.name(), s.v);
        let kernel = self.kernels.get(&MATMUL, &name)?;
        let (tile, threads) = if self.precision == Precision::Bf16 { (64, 128) } else { (16, 256) };
        let p = Product { heads: s.attention.heads as i32, ..p };
        let grid = [
            (p.m as usize).div_ceil(tile) as u32,
            (p.n as usize).div_ceil(tile) as u32,
            (s.batch * s.attention.heads) as u32,
        ];
        // SAFETY: matmul.cu's `Product`; the operands lie in the arena and in the tables of scores.
        unsafe { kernel.launch(stream, grid, [threads, 1, 1], 0, &[(&p).into()]) }
    }

    /// The probabilities of a group of images, to the table of probabilities.
    fn probabilities(&self, stream: &Stream, s: &Sizes, x: &Tensor) -> Result<(), CudaError> {
        let (a, run) = (s.attention, s.run as i32);
        let scores = Product {
            a: s.part(x, s.group(), 0),
            b: s.part(x, s.group(), a.key_dim),
            c: s.table(self.workspace.address(Part::Scores)),
            m: run,
            n: run,
            k: a.key_dim as i32,
            scale: 1.0 / (a.key_dim as f32).sqrt(),
            ..Product::default()
        };
        self.product(stream, "scores", s, scores)?;
        let kernel = self.kernels.get(&MATMUL, &format!("softmax_{}", self.precision.name()))?;
        let (from, to) = (self.workspace.address(Part::Scores), self.workspace.address(Part::Probabilities));
        let (rows, columns, pitch) = (s.rows() as i32, run, pitch(s.run) as i32);
        let arguments = [(&from).into(), (&to).into(), (&rows).into(), (&columns).into(), (&pitch).into()];
        let grid = [(rows as u32).div_ceil(8), 1, 1];
        // SAFETY: the kernel's arguments; both tables have room.
        unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &arguments) }
    }

    pub(super) fn attention(
        &self,
        stream: &Stream,
        a: Attention,
        x: Tensor,
        y: Tensor,
    ) -> Result<(), CudaError> {
        self.attention_parts(a, &[x, y], |s, parts| {
            let (x, y) = (&parts[0], &parts[1]);
            self.probabilities(stream, &s, x)?;
            let mix = Product {
                a: s.table(self.workspace.address(Part::Probabilities)),
                b: s.part(x, s.group(), 2 * a.key_dim),
                c: s.part(y, a.value_dim, 0),
                m: s.run as i32,
                n: a.value_dim as i32,
                k: s.run as i32,
                scale: 1.0,
                ..Product::default()
            };
            self.product(stream, "mix", &s, mix)
        })
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn attention_grad(
        &self,
        stream: &Stream,
        a: Attention,
        x: Tensor,
        dy: Tensor,
        dx: Tensor,
        add: bool,
    ) -> Result<(), CudaError> {
        let scale = 1.0 / (a.key_dim as f32).sqrt();
        self.attention_parts(a, &[x, dy, dx], |s, parts| {
            let (x, dy, dx) = (&parts[0], &parts[1], &parts[2]);
            let (group, run, key, value) = (s.group(), s.run as i32, a.key_dim as i32, a.value_dim as i32);
            let probabilities = s.table(self.workspace.address(Part::Probabilities));
            let scores = s.table(self.workspace.address(Part::Scores));
            let slopes = s.table(self.workspace.address(Part::Slopes));
            let base = Product { scale: 1.0, add: i32::from(add), ..Product::default() };
            self.probabilities(stream, &s, x)?;
            // dV = P^T dO
            let c = s.part(dx, group, 2 * a.key_dim);
            let b = s.part(dy, a.value_dim, 0);
            self.product(
                stream,
                "gather",
                &s,
                Product { a: probabilities, b, c, m: run, n: value, k: run, ..base },
            )?;
            // dP = dO V^T
            let v = s.part(x, group, 2 * a.key_dim);
            let dp = Product { a: b, b: v, c: scores, m: run, n: run, k: value, add: 0, ..base };
            self.product(stream, "scores", &s, dp)?;
            let kernel = self.kernels.get(&MATMUL, &format!("softmax_grad_{}", self.precision.name()))?;
            let (from, grads, to) = (probabilities.data, scores.data, slopes.data);
            let (rows, pitch) = (s.rows() as i32, pitch(s.run) as i32);
            let arguments = [
                (&from).into(),
                (&grads).into(),
                (&to).into(),
                (&rows).into(),
                (&run).into(),
                (&pitch).into(),
                (&scale).into(),
            ];
            let grid = [(rows as u32).div_ceil(8), 1, 1];
            // SAFETY: the kernel's arguments; the tables have room.
            unsafe { kernel.launch(stream, grid, [256, 1, 1], 0, &arguments)? };
            // dQ = dS K, dK = dS^T Q
            let (q, k) = (s.part(x, group, 0), s.part(x, group, a.key_dim));
            let (dq, dk) = (s.part(dx, group, 0), s.part(dx, group, a.key_dim));
            self.product(
                stream,
                "mix",
                &s,
                Product { a: slopes, b: k, c: dq, m: run, n: key, k: run, ..base },
            )?;
            self.product(
                stream,
                "gather",
                &s,
                Product { a: slopes, b: q, c: dk, m: run, n: key, k: run, ..base },
            )
        })
    }
}
