//! What must survive a crash, in one SQLite file: WAL, synchronous FULL, migrations by number.
mod migrate;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use serde::de::DeserializeOwned;

use crate::Problem;

/// A writer waits this long for another one.
const BUSY: Duration = Duration::from_secs(10);
/// Idle connections that are kept for reading.
const READERS: usize = 4;

/// The database. Reads run side by side; writes one after another.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

/// A panic while a lock was held leaves the connection usable: SQLite rolled the transaction back.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Store {
    /// Opens the file, and makes or upgrades its tables.
    ///
    /// # Errors
    /// It is no database of the studio, or a newer version wrote it.
    pub fn open(path: &Path) -> Result<Store, Problem> {
        let mut writer = connect(path)?;
        migrate::migrate(&mut writer)?;
        Ok(Store(Arc::new(Inner {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::new(Vec::new()),
        })))
    }

    /// Reads, on a thread where waiting for the disk is allowed.
    ///
    /// # Errors
    /// Those of `query`.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.clone();
        blocking(move || store.read_now(query)).await
    }

    /// Reads, on this thread.
    ///
    /// # Errors
    /// Those of `query`.
    pub fn read_now<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        let kept = held(&self.0.readers).pop();
        let connection = match kept {
            Some(connection) => connection,
            None => connect(&self.0.path)?,
        };
        let result = query(&connection);
        let mut readers = held(&self.0.readers);
        if readers.len() < READERS {
            readers.push(connection);
        }
        result
    }

    /// Changes: all of it or nothing.
    ///
    /// # Errors
    /// Those of `change`; then nothing is changed.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let store = self.clone();
        blocking(move || store.write_now(change)).await
    }

    /// Changes, on this thread.
    ///
    /// # Errors
    /// Those of `change`; then nothing is changed.
    pub fn write_now<T>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut writer = held(&self.0.writer);
        let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// Runs `work` on a thread where waiting is allowed.
///
/// # Errors
/// Those of `work`; a panic in it is one, too.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::internal("a task of the studio ended early", &error)),
    }
}

fn connect(path: &Path) -> Result<Connection, Problem> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit that was answered is on the disk, also after a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    Ok(connection)
}

/// A stored document that cannot be read: the file was damaged, or something else than the studio wrote into it.
#[derive(Debug, thiserror::Error)]
#[error("the {column} of {entry} cannot be read: {source}")]
pub struct Damaged {
    column: String,
    entry: String,
    source: serde_json::Error,
}

/// The JSON document in a column of a row. What cannot be read is an error and never passes for nothing: boxes that were
/// taken for none would be trained on as background. `entry` names the row, such as `image`; its id stands in column 0.
///
/// # Errors
/// The column has no text, or it is not such a document.
pub(crate) fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize, entry: &str) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|source| {
        let name = row.as_ref().column_name(column).unwrap_or("document").to_owned();
        let id = row.get::<_, i64>(0).unwrap_or_default();
        let damaged = Damaged { column: name, entry: format!("{entry} {id}"), source };
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(damaged))
    })
}

/// As [`json`], for a column that may be empty (NULL).
///
/// # Errors
/// It is not empty and not such a document.
pub(crate) fn json_or_none<T: DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
    entry: &str,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        Ok(None)
    } else {
        json(row, column, entry).map(Some)
    }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
