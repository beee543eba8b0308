//! The tables of a step in one block, so that one copy brings them to the GPU.

use onsa_compute::cuda::Plain;

use super::super::augment::{ColourRow, SampleRow};
use super::super::loss::{TargetRow, TargetTable};
use super::super::machine::bytes_of;
use super::super::optimiser::RatesRow;

/// Tables begin at multiples of this many bytes.
const ALIGN: usize = 16;

/// Where each table begins. The targets, whose number varies, come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    images: usize,
    capacity: usize,
}

impl Layout {
    pub(super) fn new(images: usize, capacity: usize) -> Layout {
        Layout { images, capacity }
    }

    /// Targets that there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn samples(&self) -> usize {
        0
    }

    pub(super) fn colours(&self) -> usize {
        (self.images * size_of::<SampleRow>()).next_multiple_of(ALIGN)
    }

    pub(super) fn rates(&self) -> usize {
        self.colours() + (self.images * size_of::<ColourRow>()).next_multiple_of(ALIGN)
    }

    pub(super) fn starts(&self) -> usize {
        self.rates() + size_of::<RatesRow>().next_multiple_of(ALIGN)
    }

    pub(super) fn targets(&self) -> usize {
        self.starts() + ((self.images + 1) * size_of::<i32>()).next_multiple_of(ALIGN)
    }

    /// Size of the block.
    pub(super) fn bytes(&self) -> usize {
        self.targets() + self.capacity * size_of::<TargetRow>()
    }

    /// Writes the tables; gives how many bytes are in use. A batch of ready pixels has no samples and no colours.
    ///
    /// # Panics
    /// If a table has more rows than the layout says.
    pub(super) fn fill(
        &self,
        block: &mut [u8],
        samples: &[SampleRow],
        colours: &[ColourRow],
        rates: &RatesRow,
        targets: &TargetTable,
    ) -> usize {
        assert!(samples.len() <= self.images && colours.len() <= self.images);
        assert!(targets.starts.len() == self.images + 1 && targets.rows.len() <= self.capacity);
        let mut put = |start: usize, bytes: &[u8]| block[start..start + bytes.len()].copy_from_slice(bytes);
        put(self.samples(), bytes_of(samples));
        put(self.colours(), bytes_of(colours));
        put(self.rates(), bytes_of(std::slice::from_ref(rates)));
        put(self.starts(), bytes_of(&targets.starts));
        put(self.targets(), bytes_of(&targets.rows));
        self.targets() + size_of_val(targets.rows.as_slice())
    }
}

/// One plain value from its bytes.
pub(super) fn read<T: Plain>(bytes: &[u8]) -> T {
    assert_eq!(bytes.len(), size_of::<T>());
    // SAFETY: as many bytes as the value has, any of which are a value; read without regard to alignment.
    unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_do_not_overlap_and_are_read_back() {
        let layout = Layout::new(3, 5);
        let (samples, colours) = (vec![SampleRow::default(); 3], vec![ColourRow::default(); 3]);
        let targets = TargetTable { rows: vec![TargetRow::default(); 2], starts: vec![0, 1, 1, 2] };
        let rates = RatesRow::default();
        let mut block = vec![7u8; layout.bytes()];
        let used = layout.fill(&mut block, &samples, &colours, &rates, &targets);
        assert_eq!(used, layout.targets() + 2 * size_of::<TargetRow>());
        assert!(block[used..].iter().all(|&byte| byte == 7), "behind the last target nothing is written");
        let starts: Vec<i32> = (0..4).map(|i| read(&block[layout.starts() + 4 * i..][..4])).collect();
        assert_eq!(starts, targets.starts);
        let begins = [layout.samples(), layout.colours(), layout.rates(), layout.starts(), layout.targets()];
        let sizes = [3 * size_of::<SampleRow>(), 3 * size_of::<ColourRow>(), size_of::<RatesRow>(), 16, used];
        for ((begin, next), size) in begins.iter().zip(&begins[1..]).zip(sizes) {
            assert!(begin.is_multiple_of(ALIGN) && begin + size <= *next);
        }
    }
}
