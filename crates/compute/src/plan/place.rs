//! Which values share a buffer: slices lie in what they are cut from, a concatenation's inputs in its result.

use crate::graph::{Graph, Op, Value};

use super::View;

/// The place of every value. The same places serve values and, in buffers of their own, their gradients.
pub(super) struct Places {
    /// For each value: the value in whose buffer it lies, and from which channel on.
    inside: Vec<Option<(Value, usize)>>,
    shapes: Vec<[usize; 4]>,
    /// For each value that is not inside another: its buffer, once it is needed.
    buffers: Vec<Option<u32>>,
    grads: Vec<Option<u32>>,
    /// Gradients that lie where another value's gradient lay.
    grad_alias: Vec<Option<Value>>,
    /// Elements of each buffer.
    pub buffer_lens: Vec<usize>,
    /// For each gradient buffer: which channels hold something already.
    written: Vec<Vec<bool>>,
}

impl Places {
    pub fn new(graph: &Graph) -> Places {
        let nodes = graph.nodes();
        let mut inside: Vec<Option<(Value, usize)>> = vec![None; nodes.len()];
        let mut fixed: Vec<bool> =
            nodes.iter().map(|node| matches!(node.op, Op::Input | Op::Slice { .. })).collect();
        for (_, output) in graph.outputs() {
            fixed[output.index()] = true;
        }
        for (i, node) in nodes.iter().enumerate() {
            if let Op::Slice { start } = node.op {
                inside[i] = Some((node.inputs[0], start));
            }
        }
        // The outermost concatenation first, so that an inner one lies in it whole.
        for (i, node) in nodes.iter().enumerate().rev().filter(|(_, node)| matches!(node.op, Op::Concat)) {
            let mut channel = 0;
            for &input in &node.inputs {
                let twice = node.inputs.iter().filter(|&&other| other == input).count() > 1;
                if !fixed[input.index()] && !twice && inside[input.index()].is_none() {
                    inside[input.index()] = Some((Value(i as u32), channel));
                }
                channel += graph.shape(input)[3];
            }
        }
        Places {
            inside,
            shapes: nodes.iter().map(|node| node.shape).collect(),
            buffers: vec![None; nodes.len()],
            grads: vec![None; nodes.len()],
            grad_alias: vec![None; nodes.len()],
            buffer_lens: Vec::new(),
            written: Vec::new(),
        }
    }

    /// Whether `value` lies in the buffer of `outer` (a concatenation) at the channel where it belongs.
    pub fn is_inside(&self, value: Value, outer: Value, channel: usize) -> bool {
        self.inside[value.index()] == Some((outer, channel))
    }

    /// Follows a value to the one whose buffer it lies in: `(root, first channel)`.
    fn root(&self, mut value: Value) -> (Value, usize) {
        let mut channel = 0;
        while let Some((outer, start)) = self.inside[value.index()] {
            channel += start;
            value = outer;
        }
        (value, channel)
    }

    fn make_view(&self, buffer: u32, root: Value, channel: usize, value: Value) -> View {
        View {
            buffer,
            channel,
            pixel_stride: self.shapes[root.index()][3],
            shape: self.shapes[value.index()],
        }
    }

    fn new_buffer(&mut self, root: Value) -> u32 {
        let shape = self.shapes[root.index()];
        self.buffer_lens.push(shape.iter().product());
        self.written.push(vec![false; shape[3]]);
        self.buffer_lens.len() as u32 - 1
    }

    /// Where a value lies; its buffer is made at the first call.
    pub fn make(&mut self, value: Value) -> View {
        let (root, channel) = self.root(value);
        let buffer = match self.buffers[root.index()] {
            Some(buffer) => buffer,
            None => {
                let buffer = self.new_buffer(root);
                self.buffers[root.index()] = Some(buffer);
                buffer
            }
        };
        self.make_view(buffer, root, channel, value)
    }

    /// Where a value lies that [`Places::make`] has placed.
    pub fn view(&self, value: Value) -> View {
        let (root, channel) = self.root(value);
        let buffer = self.buffers[root.index()].expect("lowering places a value before it is read");
        self.make_view(buffer, root, channel, value)
    }

    /// Lets the gradient of `value` take the place of the gradient of `of`, of the same shape.
    pub fn alias_grad(&mut self, value: Value, of: Value) {
        self.grad_alias[value.index()] = Some(of);
    }

    /// Where a value's gradient lies; its buffer is made at the first call.
    pub fn grad(&mut self, value: Value) -> View {
        if let Some(of) = self.grad_alias[value.index()] {
            return self.grad(of);
        }
        let (root, channel) = self.root(value);
        let buffer = match self.grads[root.index()] {
            Some(buffer) => buffer,
            None => {
                let buffer = self.new_buffer(root);
                self.grads[root.index()] = Some(buffer);
                buffer
            }
        };
        self.make_view(buffer, root, channel, value)
    }

    /// The state of a gradient's channels: which hold something.
    pub fn written(&self, view: &View) -> &[bool] {
        &self.written[view.buffer as usize][view.channel..view.channel + view.channels()]
    }

    /// Notes that all of a gradient's channels hold something.
    pub fn set_written(&mut self, view: &View) {
        self.written[view.buffer as usize][view.channel..view.channel + view.channels()].fill(true);
    }
}
