//! Pages of a data set's images, filtered, and what they hold in figures. None of it loads the whole set.
use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::Boxed;
use super::datasets;
use crate::{Problem, store};

/// Most images of one page.
const PAGE: u32 = 500;
/// Bins of the histograms of box sizes.
const BINS: usize = 20;

/// Which images are asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub struct Filter {
    /// `train`, `val` or `test`.
    pub split: Option<String>,
    /// Images with a box of this class number.
    pub class: Option<u32>,
    /// `faulty`, `empty` (without a box) or `suggested` (boxes of a model that nobody has looked at).
    pub only: Option<String>,
    /// Images to pass over.
    #[serde(default)]
    pub offset: u32,
    /// Images to give, at most 500.
    pub limit: Option<u32>,
}

/// Images, in the data set's order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Page {
    /// How many there are, on all pages together.
    pub total: i64,
    /// Those of this page.
    pub images: Vec<Image>,
}

/// An image with its boxes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Image {
    /// Its id.
    pub id: i64,
    /// The data set's id.
    pub dataset: i64,
    /// Its place in the data set, from 0.
    pub position: i64,
    /// The file's name.
    pub name: String,
    /// `train`, `val` or `test`.
    pub split: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Its boxes.
    pub boxes: Vec<Boxed>,
    /// Faults that the check found on it.
    pub faults: i64,
    /// Grows with every change of its boxes.
    pub revision: i64,
    /// The image before it, for one that was asked for alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<i64>,
    /// The image after it, for one that was asked for alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
    /// Where the file lies.
    #[serde(skip)]
    pub path: String,
}

const COLUMNS: &str =
    "i.id, i.dataset, i.position, i.name, i.split, i.width, i.height, i.boxes, i.faults, i.revision, i.path";

fn read(row: &Row<'_>) -> rusqlite::Result<Image> {
    Ok(Image {
        id: row.get(0)?,
        dataset: row.get(1)?,
        position: row.get(2)?,
        name: row.get(3)?,
        split: row.get(4)?,
        width: row.get(5)?,
        height: row.get(6)?,
        boxes: store::json(row, 7, "image")?,
        faults: row.get(8)?,
        revision: row.get(9)?,
        previous: None,
        next: None,
        path: row.get(10)?,
    })
}

/// One page.
///
/// # Errors
/// There is no such data set, or the filter makes no sense.
pub fn page(connection: &Connection, dataset: i64, filter: &Filter) -> Result<Page, Problem> {
    connection
        .query_row("SELECT 1 FROM datasets WHERE id = ?1", [dataset], |_| Ok(()))
        .optional()?
        .ok_or_else(|| Problem::missing(format!("there is no data set {dataset}")))?;
    let mut from = "images i".to_owned();
    let mut conditions = vec!["i.dataset = ?1".to_owned()];
    // The class table knows the split, too: what it can answer alone reads no image's row.
    let mut counted = vec!["c.dataset = ?1".to_owned()];
    if let Some(class) = filter.class {
        from = "image_classes c JOIN images i ON i.dataset = c.dataset AND i.position = c.position".into();
        counted.push(format!("c.class = {class}"));
        conditions.push(format!("c.dataset = ?1 AND c.class = {class}"));
    }
    if let Some(split) = &filter.split {
        let known = ["train", "val", "test"].into_iter().find(|name| name == split);
        let split = known.ok_or_else(|| Problem::invalid("split is train, val or test"))?;
        let table = if filter.class.is_some() { "c" } else { "i" };
        counted.push(format!("c.split = '{split}'"));
        conditions.push(format!("{table}.split = '{split}'"));
    }
    match filter.only.as_deref() {
        None => {}
        Some("faulty") => conditions.push("i.faults > 0".into()),
        Some("empty") => conditions.push("i.box_count = 0".into()),
        Some("suggested") => conditions.push("i.suggested = 1".into()),
        Some(_) => return Err(Problem::invalid("only is faulty, empty or suggested")),
    }
    let conditions = conditions.join(" AND ");
    let count = match (filter.class, &filter.only) {
        (Some(_), None) => format!("SELECT count(*) FROM image_classes c WHERE {}", counted.join(" AND ")),
        _ => format!("SELECT count(*) FROM {from} WHERE {conditions}"),
    };
    let total = connection.prepare_cached(&count)?.query_row([dataset], |row| row.get(0))?;
    let limit = filter.limit.unwrap_or(100).min(PAGE);
    let order = if filter.class.is_some() { "c.position" } else { "i.position" };
    // Positions have no gaps: without a filter the page is found by its first position, not by counting up to it.
    let plain = filter.split.is_none() && filter.class.is_none() && filter.only.is_none();
    let sql = if filter.class.is_some() && filter.only.is_none() {
        // Passing over rows happens in the class table alone.
        let some = format!(
            "SELECT position FROM image_classes c WHERE {} ORDER BY position LIMIT ?3 OFFSET ?2",
            counted.join(" AND ")
        );
        format!(
            "SELECT {COLUMNS} FROM ({some}) c JOIN images i ON i.dataset = ?1 AND i.position = c.position ORDER BY i.position"
        )
    } else if plain {
        format!(
            "SELECT {COLUMNS} FROM {from} WHERE {conditions} AND i.position >= ?2 ORDER BY i.position LIMIT ?3"
        )
    } else {
        format!("SELECT {COLUMNS} FROM {from} WHERE {conditions} ORDER BY {order} LIMIT ?3 OFFSET ?2")
    };
    let mut statement = connection.prepare_cached(&sql)?;
    let images = statement.query_map((dataset, filter.offset, limit), read)?.collect::<Result<_, _>>()?;
    Ok(Page { total, images })
}

/// One image, with its neighbours.
///
/// # Errors
/// There is none.
pub fn get(connection: &Connection, id: i64) -> Result<Image, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM images i WHERE i.id = ?1");
    let image = connection.prepare_cached(&sql)?.query_row([id], read).optional()?;
    let image = image.ok_or_else(|| Problem::missing(format!("there is no image {id}")))?;
    let mut at = connection.prepare_cached("SELECT id FROM images WHERE dataset = ?1 AND position = ?2")?;
    let mut neighbour =
        |by: i64| at.query_row((image.dataset, image.position + by), |row| row.get(0)).optional();
    let (previous, next) = (neighbour(-1)?, neighbour(1)?);
    Ok(Image { previous, next, ..image })
}

/// A data set in figures.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Histograms {
    /// Boxes of each class in each split, by class number.
    pub classes: Vec<ClassCount>,
    /// Boxes by the square root of their share of the image: 20 bins from 0 to 1.
    pub sizes: Vec<u64>,
    /// Images by their number of boxes: 0, 1, 2, ... and in the last bin all that have more.
    pub per_image: Vec<u64>,
}

/// A class in figures.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Boxes.
    pub boxes: i64,
    /// Images that show it.
    pub images: i64,
}

/// Counts classes and sizes.
///
/// # Errors
/// There is no such data set.
pub fn histograms(connection: &Connection, dataset: i64) -> Result<Histograms, Problem> {
    let names = datasets::get(connection, dataset)?.classes;
    let mut classes: Vec<ClassCount> =
        names.into_iter().map(|name| ClassCount { name, boxes: 0, images: 0 }).collect();
    let sql = "SELECT class, sum(boxes), count(*) FROM image_classes WHERE dataset = ?1 GROUP BY class";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([dataset])?;
    while let Some(row) = rows.next()? {
        if let Some(class) = classes.get_mut(row.get::<_, usize>(0)?) {
            (class.boxes, class.images) = (row.get(1)?, row.get(2)?);
        }
    }
    let (mut sizes, mut per_image) = (vec![0; BINS], vec![0; BINS + 1]);
    let mut statement = connection.prepare_cached("SELECT id, boxes FROM images WHERE dataset = ?1")?;
    let mut rows = statement.query([dataset])?;
    while let Some(row) = rows.next()? {
        let boxes: Vec<Boxed> = store::json(row, 1, "image")?;
        per_image[boxes.len().min(BINS)] += 1;
        for Boxed(_, _, _, w, h) in boxes {
            let side = f64::from(w * h).sqrt();
            sizes[((side * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
    }
    Ok(Histograms { classes, sizes, per_image })
}
