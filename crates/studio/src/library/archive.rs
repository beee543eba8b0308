//! Zips from outside.
use std::path::Path;

use onsa_intake::archive::{self, Caps};

use crate::{Problem, problem};

/// Unpacks a zip into `folder`, which does not exist yet; its parent is made.
///
/// # Errors
/// The zip is damaged, unsafe or too large; then nothing is left of it.
pub(super) fn unpack(file: &Path, folder: &Path) -> Result<(), Problem> {
    if let Some(above) = folder.parent() {
        std::fs::create_dir_all(above).map_err(|e| Problem::path("cannot make", above, &e))?;
    }
    let refused = |e: archive::ArchiveError| Problem::invalid(problem::causes(&e)).hint(e.hint());
    archive::unpack(file, folder, &Caps::default()).map_err(refused)?;
    Ok(())
}
