//! How many entries a zip file's directory can have, found without allocating for them.

const HEADER: &[u8; 4] = b"PK\x01\x02";

/// Counts the places where a directory header could begin: an upper bound for what opening the zip file allocates.
#[derive(Debug, Default)]
pub(crate) struct DirectoryHeaders {
    count: u64,
    /// The last bytes before the next block, fewer than a header has.
    tail: Vec<u8>,
}

impl DirectoryHeaders {
    /// Takes the next bytes of the file.
    pub fn take(&mut self, block: &[u8]) {
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend(&block[..block.len().min(HEADER.len() - 1)]);
        self.count += seam.windows(HEADER.len()).filter(|w| w == HEADER).count() as u64;
        self.count += memchr::memmem::find_iter(block, HEADER).count() as u64;
        let kept = HEADER.len() - 1;
        self.tail = match block.len() {
            n if n >= kept => block[n - kept..].to_vec(),
            _ => seam[seam.len().saturating_sub(kept)..].to_vec(),
        };
    }

    /// Headers so far.
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_counted_across_blocks_of_any_size() {
        let file = [b"xPK\x01\x02".repeat(5), b"PK\x01".to_vec(), HEADER.to_vec()].concat();
        for size in 1..file.len() + 1 {
            let mut headers = DirectoryHeaders::default();
            file.chunks(size).for_each(|block| headers.take(block));
            assert_eq!(headers.count(), 6, "blocks of {size}");
        }
    }
}
