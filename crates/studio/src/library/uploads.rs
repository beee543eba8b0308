//! Files on their way in: in pieces, each added where the last one ended, so that a broken connection costs one piece.
use std::io::Write;
use std::path::PathBuf;

use axum::body::Body;
use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;

use crate::config::random_text;
use crate::store::{blocking, now};
use crate::{App, Problem};

/// Largest file that is taken.
pub const MOST_BYTES: u64 = 64 << 30;
/// Largest piece.
pub const PIECE_BYTES: usize = 32 << 20;
/// Bytes of randomness in an upload's id.
const ID_BYTES: usize = 12;

/// A file that is about to be sent.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct NewUpload {
    /// The file's name, for show and for its ending.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// A file on its way in.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Upload {
    /// Its id.
    pub id: String,
    /// The file's name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Bytes that have come: where the next piece begins.
    pub received: u64,
}

/// Where an upload's bytes lie.
pub fn path(app: &App, id: &str) -> PathBuf {
    app.config.dir.join("uploads").join(id)
}

/// Begins an upload.
///
/// # Errors
/// It is too large, or the disk refuses.
pub async fn begin(app: &App, new: NewUpload) -> Result<Upload, Problem> {
    if new.size == 0 || new.size > MOST_BYTES {
        return Err(Problem::invalid(format!(
            "{} bytes cannot be uploaded: from 1 byte to {} GiB",
            new.size,
            MOST_BYTES >> 30
        ))
        .hint("for more, put the files into a folder on this machine and point to it"));
    }
    let upload = Upload { id: random_text(ID_BYTES)?, name: new.name, size: new.size, received: 0 };
    let file = path(app, &upload.id);
    std::fs::File::create(&file).map_err(|e| Problem::path("cannot write", &file, &e))?;
    let row = upload.clone();
    app.store
        .write(move |t| {
            let sql = "INSERT INTO uploads (id, name, size, created) VALUES (?1, ?2, ?3, ?4)";
            t.execute(sql, rusqlite::params![row.id, row.name, row.size as i64, now()])?;
            Ok(())
        })
        .await?;
    Ok(upload)
}

/// How far an upload is.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, id: &str) -> Result<Upload, Problem> {
    let (key, file) = (id.to_owned(), app.clone());
    let found = app.store.read(move |c| {
        let sql = "SELECT id, name, size FROM uploads WHERE id = ?1";
        let row = c.query_row(sql, [key], |row| {
            Ok(Upload { id: row.get(0)?, name: row.get(1)?, size: row.get::<_, i64>(2)? as u64, received: 0 })
        });
        Ok(row.optional()?)
    });
    let upload = found.await?.ok_or_else(|| Problem::missing("there is no such upload"))?;
    // The id in the path is the database's own, never what the request said.
    let received = std::fs::metadata(path(&file, &upload.id)).map_or(0, |data| data.len());
    Ok(Upload { received, ..upload })
}

/// Adds a piece that begins at `offset`.
///
/// # Errors
/// It does not begin where the last one ended, is too long, or the disk refuses.
pub async fn add(app: &App, id: &str, offset: u64, body: Body) -> Result<Upload, Problem> {
    let upload = get(app, id).await?;
    if offset != upload.received {
        return Err(Problem::conflict(format!("the next piece begins at byte {}", upload.received)));
    }
    let file = path(app, &upload.id);
    let failed = |e: std::io::Error| Problem::path("cannot write", &file, &e);
    let mut out = std::fs::OpenOptions::new().append(true).open(&file).map_err(failed)?;
    let mut room = upload.size - upload.received;
    let mut stream = body.into_data_stream();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|e| Problem::invalid(format!("the piece ended early: {e}")))?;
        if bytes.len() as u64 > room {
            return Err(Problem::invalid("the file is longer than was said"));
        }
        room -= bytes.len() as u64;
        out = blocking(move || match out.write_all(&bytes) {
            Ok(()) => Ok(out),
            Err(e) => Err(Problem::internal("the piece cannot be written", &e)),
        })
        .await?;
    }
    get(app, id).await
}

/// A finished upload, to be used: its file.
///
/// # Errors
/// It is not finished.
pub async fn finished(app: &App, id: &str) -> Result<(Upload, PathBuf), Problem> {
    let upload = get(app, id).await?;
    if upload.received != upload.size {
        return Err(Problem::conflict(format!(
            "only {} of {} bytes have come",
            upload.received, upload.size
        )));
    }
    let file = path(app, &upload.id);
    Ok((upload, file))
}

/// Forgets an upload and its bytes.
///
/// # Errors
/// The database refuses.
pub async fn forget(app: &App, id: &str) -> Result<(), Problem> {
    let upload = get(app, id).await?;
    let _ = std::fs::remove_file(path(app, &upload.id));
    app.store
        .write(move |t| {
            t.execute("DELETE FROM uploads WHERE id = ?1", [upload.id])?;
            Ok(())
        })
        .await
}
