//! A model draws the first boxes of a whole data set: on images that nobody has labelled, and never over a person's work.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::annotations::{self, Boxed};
use super::models::{self, Model};
use super::{datasets, program};
use crate::protocol::{ErrorText, Event};
use crate::store::blocking;
use crate::{App, Problem};

/// Images that one process looks at: what is done so far is kept after each.
const CHUNK: usize = 64;

/// A whole set to be labelled.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Wish {
    /// The model's id.
    pub model: i64,
    /// Least confidence of a box that is drawn, above 0 to 1.
    pub conf: f64,
}

/// What was begun.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Begun {
    /// Images that nobody has labelled.
    pub images: usize,
}

/// Data sets that are being labelled, and how to stop that.
#[derive(Default)]
pub struct Prelabels(Mutex<BTreeMap<i64, Arc<AtomicBool>>>);

impl Prelabels {
    fn all(&self) -> MutexGuard<'_, BTreeMap<i64, Arc<AtomicBool>>> {
        // Single entries are written under the lock: a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image without labels: nothing drawn, never saved by a person, and no empty label file that says "nothing here".
struct Bare {
    id: i64,
    path: String,
    size: (u32, u32),
}

fn bare(connection: &Connection, dataset: i64) -> Result<Vec<Bare>, Problem> {
    let sql = "SELECT id, path, width, height FROM images i
               WHERE dataset = ?1 AND box_count = 0 AND revision = 0 AND usable <> 0
               AND NOT EXISTS (SELECT 1 FROM image_faults f WHERE f.image = i.id AND f.error = 1)
               AND NOT EXISTS (SELECT 1 FROM image_faults f WHERE f.image = i.id AND f.kind = 'empty_label')
               ORDER BY position";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([dataset], |row| {
        Ok(Bare { id: row.get(0)?, path: row.get(1)?, size: (row.get(2)?, row.get(3)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Begins to label a data set.
///
/// # Errors
/// There is nothing to label, the model knows none of the classes, or it goes on already.
pub async fn begin(app: &App, dataset: i64, wish: Wish) -> Result<Begun, Problem> {
    if !(wish.conf > 0.0 && wish.conf <= 1.0) {
        return Err(Problem::invalid("conf is above 0 and at most 1"));
    }
    let (set, images, model) = app
        .store
        .read(move |c| Ok((datasets::ready(c, dataset)?, bare(c, dataset)?, models::get(c, wish.model)?)))
        .await?;
    if set.classifies() {
        return Err(Problem::invalid("pictures with one class each are not labelled with boxes"));
    }
    let known = model.about.classes.iter().flatten().any(|name| set.classes.contains(name));
    if model.about.family.is_none() || !known {
        return Err(Problem::invalid(format!(
            "the model {} knows none of the data set's classes",
            model.name
        ))
        .hint("choose a model that was trained for them, or add a class of the same name"));
    }
    if images.is_empty() {
        return Err(Problem::conflict("every picture is labelled already"));
    }
    let stop = Arc::new(AtomicBool::new(false));
    {
        let mut all = app.prelabels.all();
        if all.contains_key(&dataset) {
            return Err(Problem::conflict("the data set is being labelled already"));
        }
        all.insert(dataset, Arc::clone(&stop));
    }
    let begun = Begun { images: images.len() };
    let app = app.clone();
    tokio::spawn(async move {
        let result = label(&app, dataset, &set.classes, &images, &model, wish.conf, &stop).await;
        app.prelabels.all().remove(&dataset);
        let error = result.err().map(|problem| ErrorText {
            message: problem.message,
            causes: Vec::new(),
            hint: problem.hint,
        });
        app.tell(Event::Prelabelled { dataset, error });
        app.tell(Event::Dataset { dataset, stage: None, done: 0, total: 0 });
    });
    Ok(begun)
}

/// Ends the labelling of a data set after the images that are being looked at.
///
/// # Errors
/// It is not being labelled.
pub fn stop(app: &App, dataset: i64) -> Result<(), Problem> {
    let all = app.prelabels.all();
    let stop = all.get(&dataset).ok_or_else(|| Problem::missing("the data set is not being labelled"))?;
    stop.store(true, Ordering::SeqCst);
    Ok(())
}

async fn label(
    app: &App,
    dataset: i64,
    classes: &[String],
    images: &[Bare],
    model: &Model,
    conf: f64,
    stop: &AtomicBool,
) -> Result<(), Problem> {
    let tell = |done: usize| {
        app.tell(Event::Dataset { dataset, stage: Some("prelabel".into()), done, total: images.len() });
    };
    tell(0);
    let side = model.about.imgsz.map_or(640, |[h, w]| h.max(w));
    for (i, chunk) in images.chunks(CHUNK).enumerate() {
        let list = app.config.dir.join("cache").join(format!("prelabel-{dataset}.txt"));
        let text: String = chunk.iter().map(|image| format!("{}\n", image.path)).collect();
        let written = list.clone();
        blocking(move || {
            std::fs::write(&written, text).map_err(|e| Problem::path("cannot write", &written, &e))
        })
        .await?;
        let arguments = [
            "predict".to_owned(),
            format!("model={}", model.path.display()),
            format!("source={}", list.display()),
            format!("imgsz={side}"),
            format!("conf={conf}"),
            "save=false".to_owned(),
        ];
        let found = program::onsa(app, &arguments).await;
        let _ = std::fs::remove_file(&list);
        let found: Vec<Value> = serde_json::from_value(found?)?;
        if found.len() != chunk.len() {
            return Err(Problem::conflict(
                "the model answered for another number of pictures than it was asked",
            ));
        }
        let boxes: Vec<(i64, Vec<Boxed>)> = chunk
            .iter()
            .zip(&found)
            .map(|(image, found)| (image.id, annotations::of_prediction(found, classes, image.size).0))
            .collect();
        app.store.write(move |t| boxes.iter().try_for_each(|(image, boxes)| keep(t, *image, boxes))).await?;
        tell((i * CHUNK) + chunk.len());
        if stop.load(Ordering::SeqCst) {
            break;
        }
    }
    Ok(())
}

/// Draws a model's boxes on an image, unless a person has labelled it meanwhile.
fn keep(t: &Connection, image: i64, boxes: &[Boxed]) -> Result<(), Problem> {
    if boxes.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(boxes)?;
    let sql = "UPDATE images SET boxes = ?2, box_count = ?3, suggested = 1,
               usable = CASE usable WHEN 2 THEN 1 ELSE usable END, revision = revision + 1
               WHERE id = ?1 AND box_count = 0 AND revision = 0";
    if t.execute(sql, rusqlite::params![image, text, boxes.len()])? == 0 {
        return Ok(());
    }
    let (dataset, position, split) =
        t.query_row("SELECT dataset, position, split FROM images WHERE id = ?1", [image], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
    annotations::count_classes(t, dataset, position, &split, boxes)?;
    t.execute("UPDATE datasets SET revision = revision + 1 WHERE id = ?1", [dataset])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn only_images_that_nobody_has_labelled_get_boxes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s.sqlite")).unwrap();
        let drawn = "[[0,0.5,0.5,0.5,0.5]]";
        store
            .write_now(|t| {
                t.execute_batch(
                    "INSERT INTO datasets (name, state, origin, root, classes, created)
                     VALUES ('d', 'ready', 'folder', '/', '[\"a\"]', 0)",
                )?;
                // Bare, labelled, saved as empty by a person, empty label file, damaged.
                for (i, (boxes, count, revision, usable)) in
                    [("[]", 0, 0, 1), (drawn, 1, 0, 1), ("[]", 0, 1, 1), ("[]", 0, 0, 1), ("[]", 0, 0, 0)]
                        .into_iter()
                        .enumerate()
                {
                    t.execute(
                        "INSERT INTO images (dataset, position, path, name, split, width, height, boxes, box_count, revision, usable)
                         VALUES (1, ?1, ?1, 'n', 'train', 10, 10, ?2, ?3, ?4, ?5)",
                        (i, boxes, count, revision, usable),
                    )?;
                }
                t.execute("INSERT INTO image_faults (image, kind, error) VALUES (4, 'empty_label', 0)", [])?;
                Ok(())
            })
            .unwrap();
        let found = store.read_now(|c| bare(c, 1)).unwrap();
        assert_eq!(found.iter().map(|image| image.id).collect::<Vec<_>>(), [1]);
        // A person saves all of them as empty while the model looks: nothing is drawn over it.
        let boxes = [Boxed(0, 0.5, 0.5, 0.25, 0.25)];
        store.write_now(|t| (1..=5).try_for_each(|id| keep(t, id, &boxes))).unwrap();
        let kept = |id: i64| -> (String, i64) {
            store
                .read_now(|c| {
                    Ok(c.query_row("SELECT boxes, suggested FROM images WHERE id = ?1", [id], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?)
                })
                .unwrap()
        };
        assert_eq!(kept(1), ("[[0,0.5,0.5,0.25,0.25]]".into(), 1));
        assert_eq!((kept(2), kept(3)), ((drawn.into(), 0), ("[]".into(), 0)));
    }
}
