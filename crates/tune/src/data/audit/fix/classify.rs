//! The corrected copy of a data set of whole images.

use std::collections::HashSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;

use super::{FixError, Fixed, Plan, at, extension, free_stem};
use crate::data::classify::{Form, IdxStore, decode_idx};
use crate::data::dataset::{Dataset, Item, Split};
use crate::durable;

/// Copies what the plan keeps into `folder`: folders of classes, or images/ and table.csv where the data set is a table.
pub(super) fn copy(plan: &Plan<'_>, dataset: &Dataset, form: Form, folder: &Path) -> Result<Fixed, FixError> {
    let mut fixed = Fixed { output: folder.into(), images: 0, left_out: 0, boxes: 0, changes: Vec::new() };
    fs::create_dir_all(folder).map_err(at(folder))?;
    let store = IdxStore::default();
    let mut table = csv::Writer::from_writer(Vec::new());
    let mut row = |fields: [&str; 4]| table.write_record(fields).expect("a vector takes every byte");
    row(["image", "label", "split", "group"]);
    for split in Split::ALL {
        let mut taken: Vec<HashSet<String>> = vec![HashSet::new(); dataset.classes.len().max(1)];
        for item in dataset.split(split).iter().filter(|item| plan.keeps(split, item)) {
            let class = item.labels.first().map_or(0, |label| label.class as usize);
            let name = dataset.classes.get(class).map_or("", String::as_str);
            let (place, taken) = match form {
                Form::Folders | Form::Idx => (format!("{}/{name}", split.name()), &mut taken[class]),
                Form::Table => (format!("images/{}", split.name()), &mut taken[0]),
            };
            let stem = free_stem(&item.path, taken);
            let here = folder.join(&place);
            fs::create_dir_all(&here).map_err(at(&here))?;
            let extension = if form == Form::Idx { "png".into() } else { extension(item) };
            let to = here.join(format!("{stem}.{extension}"));
            match decode_idx(&store, &item.path) {
                Some(image) => {
                    let image = image.map_err(|e| at(&item.path)(std::io::Error::other(e)))?;
                    fs::write(&to, grey_png(item, &image.data)?).map_err(at(&to))?;
                }
                None => drop(fs::copy(&item.path, &to).map_err(at(&to))?),
            }
            let group = item.group.as_deref().unwrap_or_default();
            row([&format!("{place}/{stem}.{extension}"), name, split.name(), group]);
            fixed.images += 1;
        }
    }
    if form == Form::Table {
        let text = table.into_inner().expect("a vector takes every byte");
        durable::write(&folder.join("table.csv"), &text)?;
    }
    Ok(fixed)
}

/// The PNG of an image of IDX files, whose RGB values are equal.
fn grey_png(item: &Item, rgb: &[u8]) -> Result<Vec<u8>, FixError> {
    let grey: Vec<u8> = rgb.iter().copied().step_by(3).collect();
    let image = image::GrayImage::from_raw(item.width, item.height, grey)
        .ok_or_else(|| at(&item.path)(std::io::Error::other("its size changed while it was read")))?;
    let mut out = Cursor::new(Vec::new());
    image
        .write_to(&mut out, image::ImageFormat::Png)
        .map_err(|e| at(&item.path)(std::io::Error::other(e)))?;
    Ok(out.into_inner())
}
