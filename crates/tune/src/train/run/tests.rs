//! A small run on drawn pictures, for what the whole command cannot be made to do: bad numbers amid a run, failing disks.

mod added;
mod faults;
mod non_finite;
mod stopped;

use image::{Rgb, RgbImage};
use tempfile::TempDir;

use super::*;
use crate::train::observer::Silent;
use crate::train::recipe::TrainArgs;

const SIDE: u32 = 64;

/// Eight training and two validation pictures: a bright rectangle on grey noise, and where it is.
fn drawn() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 8), ("val", 2)] {
        let (images, labels) =
            (folder.path().join("images").join(split), folder.path().join("labels").join(split));
        std::fs::create_dir_all(&images).unwrap();
        std::fs::create_dir_all(&labels).unwrap();
        for i in 0..count {
            let (x, y) = (4 + 5 * i, 8 + 3 * i);
            let inside = |px, py| (x..x + 20).contains(&px) && (y..y + 16).contains(&py);
            let picture = RgbImage::from_fn(SIDE, SIDE, |px, py| {
                let noise = (px * 31 + py * 17 + i * 7) % 64;
                if inside(px, py) { Rgb([250, 200, 40]) } else { Rgb([noise as u8; 3]) }
            });
            picture.save(images.join(format!("{i}.png"))).unwrap();
            let side = SIDE as f32;
            let (cx, cy) = ((x as f32 + 10.0) / side, (y as f32 + 8.0) / side);
            let label = format!("0 {cx} {cy} {} {}\n", 20.0 / side, 16.0 / side);
            std::fs::write(labels.join(format!("{i}.txt")), label).unwrap();
        }
    }
    let yaml = "train: images/train\nval: images/val\nnames: [block]\n";
    std::fs::write(folder.path().join("data.yaml"), yaml).unwrap();
    folder
}

/// Two epochs of two steps, saved after each.
fn recipe(folder: &Path, name: &str, more: &[(&str, &str)]) -> Recipe {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt/v8_4_190_mid.pt");
    let mut args = TrainArgs::default();
    let model = model.display().to_string();
    let (data, project) =
        (folder.join("data.yaml").display().to_string(), folder.join("runs").display().to_string());
    let usual = [
        ("model", model.as_str()),
        ("data", &data),
        ("project", &project),
        ("name", name),
        ("epochs", "2"),
        ("batch", "4"),
        ("nbs", "4"),
        ("imgsz", "64"),
        ("threads", "1"),
        ("workers", "0"),
        ("device", "cpu"),
        ("save_every", "1"),
        ("plots", "false"),
    ];
    for (key, value) in usual.iter().chain(more) {
        args.set(key, value).unwrap();
    }
    args.resolve().unwrap()
}

static NEVER: AtomicBool = AtomicBool::new(false);

fn run_to_end(recipe: &Recipe) -> Result<TrainOutcome, TrainError> {
    train(recipe, RunOptions::default(), &mut Silent, &AtomicBool::new(false))
}

fn bytes(run_dir: &Path, file: &str) -> Vec<u8> {
    std::fs::read(run_dir.join(file)).unwrap()
}

#[test]
fn few_threads_draw_their_batches_themselves_unless_workers_are_asked_for() {
    let threads = |workers: Option<&str>, on_gpu, threads| {
        let mut args = TrainArgs::default();
        args.set("model", "yolo11n").unwrap();
        args.set("data", "data.yaml").unwrap();
        if let Some(workers) = workers {
            args.set("workers", workers).unwrap();
        }
        loader_threads(&args.resolve().unwrap(), on_gpu, threads)
    };
    assert_eq!(threads(None, false, 2), 0);
    assert_eq!(threads(Some("1"), false, 2), 1);
    assert!(threads(None, true, 2) > 0, "a GPU computes");
    assert!(threads(None, false, 64) > 0);
}
