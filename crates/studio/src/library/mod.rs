//! Data sets and models: what lies on the disk, and what the database says about it.
pub mod annotations;
mod archive;
mod classes;
pub mod comparison;
pub mod datasets;
pub mod evaluations;
pub mod export;
pub mod exports;
pub mod folders;
pub mod images;
pub mod import;
pub mod models;
pub mod pictures;
mod plain;
pub mod prelabel;
pub mod program;
pub mod remedies;
pub mod uploads;
pub mod versions;

use crate::{App, Problem};

/// Takes up what an earlier studio left: imports that were cut off, models of runs that ended meanwhile, and starting
/// models that lie on this machine.
///
/// # Errors
/// The database refuses.
pub async fn recover(app: &App) -> Result<(), Problem> {
    import::recover(app).await?;
    // Looking into model files takes seconds; the first page need not wait for it.
    let app = app.clone();
    tokio::spawn(async move {
        // What fails here is tried again at the next start.
        let _ = models::recover(&app).await;
    });
    Ok(())
}
