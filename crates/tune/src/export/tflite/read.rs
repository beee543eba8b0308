//! A LiteRT file's flatbuffer back as [`Model`], as far as [`super::schema`] writes it. Every place is checked: a damaged file
//! is an error, never a panic.

use super::schema::{Elem, Fused, Model, Op, Operator, Options, Padding, Steps, Tensor};

/// Why a file is not read.
pub type Damage = String;
type Result<T> = std::result::Result<T, Damage>;

/// Tensors, operators or elements beyond which no file of ours goes: a length that damage made is not believed.
const MOST: usize = 1 << 28;

/// Reads a file.
///
/// # Errors
/// What is damaged, or unknown to the writer.
pub fn decode(bytes: &[u8]) -> Result<Model> {
    if bytes.get(4..8) != Some(b"TFL3") {
        return Err("it does not say TFL3".into());
    }
    let root = Table { bytes, at: u32_at(bytes, 0)? as usize };
    let buffers: Vec<Option<Vec<u8>>> = root
        .tables(4)?
        .iter()
        .map(|table| Ok(table.vector(0, 1)?.map(<[u8]>::to_vec)))
        .collect::<Result<_>>()?;
    let codes: Vec<(Op, i32)> = root.tables(1)?.iter().map(code).collect::<Result<_>>()?;
    let subgraphs = root.tables(2)?;
    let [graph] = &subgraphs[..] else { return Err(format!("it has {} graphs", subgraphs.len())) };
    let tensors: Vec<Tensor> =
        graph.tables(0)?.iter().map(|table| tensor(table, &buffers)).collect::<Result<_>>()?;
    let operators: Vec<Operator> =
        graph.tables(3)?.iter().map(|table| operator(table, &codes)).collect::<Result<_>>()?;
    let known = |index: &i32| usize::try_from(*index).is_ok_and(|i| i < tensors.len());
    let (inputs, outputs) = (graph.ints(1)?, graph.ints(2)?);
    let used = operators.iter().flat_map(|op| op.inputs.iter().chain(&op.outputs));
    if !inputs.iter().chain(&outputs).chain(used).all(known) {
        return Err("a tensor's number is beyond the tensors".into());
    }
    let metadata = root
        .tables(6)?
        .iter()
        .map(|table| {
            let buffer = buffers.get(table.scalar::<4, u32>(1, 0, u32::from_le_bytes)? as usize);
            let text = buffer.and_then(Option::as_ref).ok_or("metadata without a buffer")?;
            Ok((table.text(0)?, String::from_utf8(text.clone()).map_err(|e| e.to_string())?))
        })
        .collect::<Result<_>>()?;
    Ok(Model { description: root.text(3)?, tensors, operators, inputs, outputs, metadata })
}

fn code(table: &Table<'_>) -> Result<(Op, i32)> {
    let old = i32::from(table.scalar(0, 0, i8::from_le_bytes)?);
    let number = table.scalar(3, 0, i32::from_le_bytes)?.max(old);
    let op = Op::ALL.iter().find(|op| **op as i32 == number).copied();
    Ok((op.ok_or_else(|| format!("operator {number}"))?, table.scalar(2, 1, i32::from_le_bytes)?))
}

fn tensor(table: &Table<'_>, buffers: &[Option<Vec<u8>>]) -> Result<Tensor> {
    let elem = match table.scalar(1, 0, i8::from_le_bytes)? {
        0 => Elem::F32,
        1 => Elem::F16,
        2 => Elem::I32,
        9 => Elem::I8,
        other => return Err(format!("element type {other}")),
    };
    let buffer = table.scalar(2, 0, u32::from_le_bytes)? as usize;
    let data = buffers.get(buffer).ok_or("a tensor's buffer is beyond the buffers")?.clone();
    let shape = table.ints(0)?;
    let elements = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
        .filter(|n| *n <= MOST)
        .ok_or_else(|| format!("a shape of {shape:?}"))?;
    let size = match elem {
        Elem::F32 | Elem::I32 => 4,
        Elem::F16 => 2,
        Elem::I8 => 1,
    };
    if data.as_ref().is_some_and(|data| data.len() != elements * size) {
        return Err(format!("a tensor of {shape:?} with {} bytes", data.map_or(0, |d| d.len())));
    }
    let steps = match table.table(4)? {
        None => None,
        Some(steps) => {
            let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            let scales: Vec<f32> = steps.vector(2, 4)?.map(numbers).unwrap_or_default();
            let whole = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect();
            let zeros: Vec<i64> = steps.vector(3, 8)?.map(whole).unwrap_or_default();
            if scales.is_empty() || zeros.len() != scales.len() {
                return Err(format!("{} scales and {} zeros", scales.len(), zeros.len()));
            }
            Some(Steps { scales, zeros, axis: steps.scalar(6, 0, i32::from_le_bytes)? })
        }
    };
    Ok(Tensor { name: table.text(3)?, shape, elem, data, steps })
}

fn operator(table: &Table<'_>, codes: &[(Op, i32)]) -> Result<Operator> {
    let index = table.scalar(0, 0, u32::from_le_bytes)? as usize;
    let &(op, version) = codes.get(index).ok_or("an operator's code is beyond the codes")?;
    let none = Table { bytes: &[], at: 0 };
    let given = table.table(4)?;
    let absent = given.is_none();
    let o = given.unwrap_or(none);
    let int = |field: usize| o.scalar(field, 0, i32::from_le_bytes);
    let side = |field: usize| -> Result<usize> {
        usize::try_from(int(field)?).ok().filter(|v| (1..=4096).contains(v)).ok_or_else(|| "a window".into())
    };
    let padding = || -> Result<Padding> {
        match o.scalar(0, 0, i8::from_le_bytes)? {
            0 => Ok(Padding::Same),
            1 => Ok(Padding::Valid),
            other => Err(format!("padding {other}")),
        }
    };
    let fused = |field: usize| -> Result<Fused> {
        match o.scalar(field, 0, i8::from_le_bytes)? {
            0 => Ok(Fused::None),
            1 => Ok(Fused::Relu),
            3 => Ok(Fused::Relu6),
            other => Err(format!("activation {other}")),
        }
    };
    let options = match op {
        _ if absent => Options::None,
        Op::Conv2d => Options::Conv { padding: padding()?, stride: (side(2)?, side(1)?), fused: fused(3)? },
        Op::DepthwiseConv2d => {
            Options::Depthwise { padding: padding()?, stride: (side(2)?, side(1)?), fused: fused(4)? }
        }
        Op::MaxPool2d => Options::Pool { padding: padding()?, stride: side(1)?, kernel: side(3)? },
        Op::Softmax => Options::Softmax { beta: o.scalar(0, 0.0, f32::from_le_bytes)? },
        Op::Concatenation => Options::Concatenation { axis: int(0)? },
        Op::BatchMatmul => Options::MatmulTransposed,
        _ => return Err(format!("options of {op:?}")),
    };
    Ok(Operator { op, version, inputs: table.ints(1)?, outputs: table.ints(2)?, options })
}

/// A flatbuffer's table: fields by number, through its vtable.
#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// Where a field lies; none where it is left out.
    fn field(&self, number: usize) -> Result<Option<usize>> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let back = i32::from_le_bytes(bytes_at(self.bytes, self.at)?);
        let vtable = i64::try_from(self.at).map_err(|e| e.to_string())? - i64::from(back);
        let vtable = usize::try_from(vtable).map_err(|_| "a table without its fields".to_owned())?;
        let slot = 4 + 2 * number;
        if slot + 2 > usize::from(u16::from_le_bytes(bytes_at(self.bytes, vtable)?)) {
            return Ok(None);
        }
        let offset = usize::from(u16::from_le_bytes(bytes_at(self.bytes, vtable + slot)?));
        Ok((offset != 0).then_some(self.at + offset))
    }

    fn scalar<const N: usize, T>(&self, number: usize, default: T, from: fn([u8; N]) -> T) -> Result<T> {
        match self.field(number)? {
            Some(at) => Ok(from(bytes_at(self.bytes, at)?)),
            None => Ok(default),
        }
    }

    /// What a field that holds an offset points at.
    fn target(&self, number: usize) -> Result<Option<usize>> {
        match self.field(number)? {
            Some(at) => Ok(Some(at + u32_at(self.bytes, at)? as usize)),
            None => Ok(None),
        }
    }

    fn table(&self, number: usize) -> Result<Option<Table<'a>>> {
        Ok(self.target(number)?.map(|at| Table { bytes: self.bytes, at }))
    }

    /// A vector's bytes, of elements of `size`.
    fn vector(&self, number: usize, size: usize) -> Result<Option<&'a [u8]>> {
        let Some(at) = self.target(number)? else { return Ok(None) };
        let bytes = (u32_at(self.bytes, at)? as usize).checked_mul(size).and_then(|n| n.checked_add(at + 4));
        let vector = bytes.and_then(|end| self.bytes.get(at + 4..end));
        vector.map(Some).ok_or_else(|| "a vector runs beyond the end".into())
    }

    fn ints(&self, number: usize) -> Result<Vec<i32>> {
        let numbers = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect();
        Ok(self.vector(number, 4)?.map(numbers).unwrap_or_default())
    }

    fn text(&self, number: usize) -> Result<String> {
        let bytes = self.vector(number, 1)?.unwrap_or_default();
        String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
    }

    fn tables(&self, number: usize) -> Result<Vec<Table<'a>>> {
        let Some(start) = self.target(number)? else { return Ok(Vec::new()) };
        let count = self.vector(number, 4)?.unwrap_or_default().len() / 4;
        (0..count)
            .map(|i| {
                let at = start + 4 + 4 * i;
                Ok(Table { bytes: self.bytes, at: at + u32_at(self.bytes, at)? as usize })
            })
            .collect()
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let end = at.checked_add(N).ok_or("a place beyond the end")?;
    let part = bytes.get(at..end).ok_or_else(|| "a place beyond the end".to_owned())?;
    part.try_into().map_err(|_| "a place beyond the end".to_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes_at(bytes, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let plain = |name: &str, elem, data| Tensor {
            name: name.into(),
            shape: vec![1, 2, 2, 1],
            elem,
            data,
            steps: None,
        };
        let steps = Steps { scales: vec![0.5, 0.25], zeros: vec![-3, 4], axis: 3 };
        Model {
            description: "a model".into(),
            tensors: vec![
                plain("x", Elem::F32, None),
                Tensor { steps: Some(steps), ..plain("w", Elem::I8, Some(vec![1, 2, 3, 255])) },
                plain("y", Elem::F32, None),
            ],
            operators: vec![
                Operator {
                    op: Op::Conv2d,
                    version: 3,
                    inputs: vec![0, 1],
                    outputs: vec![2],
                    options: Options::Conv { padding: Padding::Valid, stride: (2, 1), fused: Fused::Relu6 },
                },
                Operator {
                    op: Op::BatchMatmul,
                    version: 1,
                    inputs: vec![0, 1],
                    outputs: vec![2],
                    options: Options::None,
                },
            ],
            inputs: vec![0],
            outputs: vec![2],
            metadata: vec![("metadata.json".into(), "{}".into())],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(decode(&model().encode()).unwrap(), model());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let whole = model().encode();
        for end in 0..whole.len() {
            let _ = decode(&whole[..end]);
        }
        let mut refused = 0;
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                refused += usize::from(decode(&bytes).is_err());
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
