//! The tables, step by step. A step that was released is never changed; a new one is added.
use rusqlite::{Connection, TransactionBehavior};

use crate::Problem;

/// Step n brings a database of version n - 1 to version n.
const STEPS: &[&str] =
    &[include_str!("migrations/0001_first.sql"), include_str!("migrations/0002_tasks.sql")];

/// The version that this program writes.
pub(super) const VERSION: usize = STEPS.len();

/// Brings the tables to [`VERSION`], each step whole or not at all.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), Problem> {
    let version: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Err(Problem::invalid(format!(
            "the studio's database has version {version}, and this program knows versions up to {VERSION}"
        ))
        .hint("a newer onsa wrote it: update onsa, or choose another folder with dir=FOLDER"));
    }
    for (step, sql) in STEPS.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another studio on the same folder may have done it while this one waited.
        let now: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if now == step {
            transaction.execute_batch(sql)?;
            transaction.pragma_update(None, "user_version", step + 1)?;
        }
        transaction.commit()?;
    }
    Ok(())
}
