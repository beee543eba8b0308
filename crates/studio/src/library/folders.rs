//! Folders that data sets may be taken from. A browser is shown them one by one and names them by id, never by path.
use std::path::{Path, PathBuf};

use rusqlite::OptionalExtension;
use schemars::JsonSchema;
use serde::Serialize;

use crate::store::blocking;
use crate::{App, Problem};

/// Most entries of a folder that are listed.
const MOST: usize = 2000;

/// A folder.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Folder {
    /// Its id.
    pub id: i64,
    /// Its name; the whole path for the folders that stand at the top.
    pub name: String,
    /// Whether it looks like a data set.
    pub is_dataset: bool,
}

/// A folder with what is in it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Listing {
    /// The folder itself; none at the top.
    pub here: Option<Folder>,
    /// The folder above; none at the top and just below it.
    pub above: Option<i64>,
    /// The folders in it.
    pub folders: Vec<Folder>,
    /// Files in it that are no folders.
    pub files: usize,
}

/// The folders at the top.
///
/// # Errors
/// The database refuses.
pub async fn top(app: &App) -> Result<Listing, Problem> {
    let roots = app.config.roots.clone();
    let app = app.clone();
    blocking(move || {
        let mut folders = Vec::new();
        for root in roots {
            let name = root.display().to_string();
            folders.push(entry(&app, &root, name)?);
        }
        Ok(Listing { here: None, above: None, folders, files: 0 })
    })
    .await
}

/// What is in a folder.
///
/// # Errors
/// It is gone, or no longer below an allowed one.
pub async fn list(app: &App, id: i64) -> Result<Listing, Problem> {
    let app = app.clone();
    blocking(move || {
        let path = find(&app, id)?;
        let mut names = Vec::new();
        let mut files = 0;
        let entries = std::fs::read_dir(&path).map_err(|e| Problem::path("cannot read", &path, &e))?;
        for entry in entries.take(100 * MOST) {
            let entry = entry.map_err(|e| Problem::path("cannot read", &path, &e))?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && entry.path().is_dir() {
                // A link that leads out of the allowed folders is not shown; following it would fail.
                let inside = entry.path().canonicalize().is_ok_and(|path| allowed(&app, &path));
                names.extend(inside.then(|| entry.file_name()).and_then(|name| name.into_string().ok()));
            } else if !hidden {
                files += 1;
            }
        }
        names.sort();
        names.truncate(MOST);
        let mut folders = Vec::new();
        for name in names {
            folders.push(entry(&app, &path.join(&name), name)?);
        }
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let above = match path.parent().filter(|above| allowed(&app, above)) {
            Some(above) => Some(entry(&app, above, String::new())?.id),
            None => None,
        };
        Ok(Listing { here: Some(entry(&app, &path, name)?), above, folders, files })
    })
    .await
}

/// The path of a folder that was shown before, if it is still allowed.
///
/// # Errors
/// It is not, or it is gone.
pub fn find(app: &App, id: i64) -> Result<PathBuf, Problem> {
    let path: Option<String> = app.store.read_now(|c| {
        Ok(c.query_row("SELECT path FROM folders WHERE id = ?1", [id], |row| row.get(0)).optional()?)
    })?;
    let gone = || Problem::missing("the folder is not there (any more)");
    let path = PathBuf::from(path.ok_or_else(gone)?).canonicalize().map_err(|_| gone())?;
    if allowed(app, &path) { Ok(path) } else { Err(gone()) }
}

/// Whether a canonical path lies in one of the allowed folders.
fn allowed(app: &App, path: &Path) -> bool {
    app.config.roots.iter().any(|root| path.starts_with(root))
}

fn entry(app: &App, path: &Path, name: String) -> Result<Folder, Problem> {
    let text =
        path.to_str().ok_or_else(|| Problem::invalid("the folder's name is not valid Unicode"))?.to_owned();
    let id = app.store.write_now(|t| {
        t.execute("INSERT OR IGNORE INTO folders (path) VALUES (?1)", [&text])?;
        Ok(t.query_row("SELECT id FROM folders WHERE path = ?1", [&text], |row| row.get(0))?)
    })?;
    let has = |file: &str| path.join(file).exists();
    let is_dataset = ["data.yaml", "data.yml", "annotations", "Annotations"].iter().any(|file| has(file))
        || (has("images") && has("labels"));
    let is_dataset = is_dataset || (has("train") && (has("val") || has("test")));
    Ok(Folder { id, name, is_dataset })
}
