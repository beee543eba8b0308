use super::*;
use crate::data::sample::{Folder, YAML, fields, picture, sound};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

fn checked(path: impl AsRef<Path>) -> Audit {
    check(path.as_ref(), &CheckOptions::default(), &|_| {})
}

fn encoded(image: RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    DynamicImage::from(image).write_to(&mut out, format).unwrap();
    out.into_inner()
}

type Planted = Vec<(PathBuf, Option<usize>, FaultKind, Severity)>;
type Line = (usize, FaultKind, Severity);

fn found(audit: &Audit) -> Planted {
    audit.faults.iter().map(|f| (f.path.clone(), f.line, f.kind, f.severity)).collect()
}

#[test]
fn a_sound_set_has_no_fault() {
    let folder = sound();
    let audit = checked(folder.path());
    assert_eq!(found(&audit), []);
    assert!(audit.ok);
    assert_eq!((audit.images, audit.boxes), (6, 10));
    assert_eq!(audit.boxes_per_class, [4, 6]);
    assert_eq!(audit.splits[1].images, 2);
    assert_eq!(audit.splits[0].width, Some((64, 64)));
}

/// A set with one of each fault; what must be reported.
fn planted() -> (Folder, Planted) {
    use FaultKind::*;
    use Severity::*;
    let folder = sound();
    folder.write("data.yaml", format!("{YAML}  2: c\ndownload: |\n  exit(1)\n"));
    let mut faults: Planted = vec![
        (folder.join("data.yaml"), Some(6), ClassWithoutBoxes, Warning),
        (folder.join("data.yaml"), Some(7), IgnoredKey, Warning),
    ];
    // Labels: content, then the faults' lines.
    let good = "0 .5 .5 .2 .2\n";
    let labels: [(&str, String, Vec<Line>); 9] = [
        ("count", format!("{good}0 .5 .5 .2\n"), vec![(2, WrongNumberCount, Error)]),
        ("word", "0 .5 oops .2 .2\n".into(), vec![(1, NotANumber, Error)]),
        ("nan", format!("{good}\n0 nan .5 .2 .2\n"), vec![(3, NonFinite, Error)]),
        (
            "class",
            format!("3 .5 .5 .2 .2\n{good}-1 .5 .5 .2 .2\n"),
            vec![(1, ClassOutOfRange, Error), (3, ClassOutOfRange, Error)],
        ),
        (
            "range",
            "0 1.5 .5 .2 .2\n0 .5 .5 .2 480\n".into(),
            vec![(1, CoordinatesOutOfRange, Error), (2, CoordinatesOutOfRange, Error)],
        ),
        ("zero", "0 .5 .5 0 .2\n".into(), vec![(1, ZeroSizeBox, Error)]),
        ("twice", format!("{good}{good}"), vec![(2, DuplicateBox, Warning)]),
        ("edge", "0 .95 .5 .2 .2\n".into(), vec![(1, BoxOutsideImage, Warning)]),
        ("polygon", format!("{good}0 .1 .1 .4 .1 .4 .4\n"), vec![(2, PolygonAsBox, Warning)]),
    ];
    for (i, (name, text, expected)) in labels.iter().enumerate() {
        folder.pair("train", name, 200 + i as u64, text);
        let path = folder.join(&format!("labels/train/{name}.txt"));
        faults.extend(
            expected.iter().map(|&(line, kind, severity)| (path.clone(), Some(line), kind, severity)),
        );
    }
    folder.pair("val", "empty", 300, "  \n");
    faults.push((folder.join("labels/val/empty.txt"), None, EmptyLabel, Warning));
    let bare = folder.image("images/val/bare.png", picture(301));
    faults.push((bare, None, MissingLabel, Warning));
    let orphan = folder.write("labels/val/deep/orphan.txt", good);
    faults.push((orphan, None, LabelWithoutImage, Error));
    // Images.
    let image = |name: &str, content: Vec<u8>| {
        folder.write(&format!("labels/train/{}.txt", name.split('.').next().unwrap()), good);
        folder.write(&format!("images/train/{name}"), content)
    };
    let jpeg = encoded(picture(400), ImageFormat::Jpeg);
    faults.push((image("null.jpg", vec![]), None, EmptyImage, Error));
    faults.push((image("cut.jpg", jpeg[..jpeg.len() / 2].to_vec()), None, TruncatedImage, Error));
    faults.push((image("text.png", b"this is no picture at all".to_vec()), None, CorruptImage, Error));
    faults.push((image("anim.gif", b"GIF89a".to_vec()), None, UnsupportedImage, Error));
    faults.push((image("anim2.jpg", b"GIF89a, named jpg".to_vec()), None, UnsupportedImage, Error));
    let mut damaged = encoded(picture(401), ImageFormat::Png);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xFF; // the chunk's checksum tells
    faults.push((image("bits.png", damaged), None, CorruptImage, Error));
    let mut giant = encoded(picture(402), ImageFormat::Bmp);
    giant[18..22].copy_from_slice(&60_000u32.to_le_bytes());
    giant[22..26].copy_from_slice(&60_000u32.to_le_bytes());
    faults.push((image("giant.bmp", giant), None, ImageTooLarge, Error));
    let small = encoded(RgbImage::new(9, 20), ImageFormat::Png);
    faults.push((image("small.png", small), None, ImageTooSmall, Error));
    let named = image("named.png", encoded(picture(403), ImageFormat::Jpeg));
    faults.push((named, None, ExtensionMismatch, Warning));
    // Training images in validation: the same pixels in another file format, and a scaled, recompressed copy.
    folder.image("images/val/same.bmp", picture(0));
    folder.write("labels/val/same.txt", good);
    faults.push((folder.join("images/val/same.bmp"), None, TrainImageInVal, Warning));
    let copy = image::imageops::resize(&picture(1), 96, 72, image::imageops::FilterType::Triangle);
    folder.write("images/val/near.jpg", encoded(copy, ImageFormat::Jpeg));
    folder.write("labels/val/near.txt", good);
    faults.push((folder.join("images/val/near.jpg"), None, NearTrainImageInVal, Warning));
    // Flat pictures of nearly one colour are no copies of each other.
    for (split, grey) in [("train", 120), ("val", 122)] {
        folder.image(&format!("images/{split}/flat.png"), RgbImage::from_pixel(64, 48, Rgb([grey; 3])));
        folder.write(&format!("labels/{split}/flat.txt"), good);
    }
    faults.sort();
    (folder, faults)
}

#[test]
fn the_report_equals_the_planted_faults() {
    let (folder, expected) = planted();
    let audit = checked(folder.path());
    assert_eq!(found(&audit), expected);
    assert!(!audit.ok);
    let near = audit.faults.iter().find(|f| f.kind == FaultKind::NearTrainImageInVal).unwrap();
    assert!(near.message.contains("t1.png"), "{}", near.message);
    let without_near = CheckOptions { near: false, ..CheckOptions::default() };
    let audit = check(folder.path(), &without_near, &|_| {});
    assert!(audit.faults.iter().all(|f| f.kind != FaultKind::NearTrainImageInVal));
    assert_eq!(audit.faults.len(), expected.len() - 1);
}

#[test]
fn loading_alone_finds_all_but_damage_amid_the_pixels_and_leaks() {
    use FaultKind::*;
    let (folder, mut expected) = planted();
    let loaded = index::load(folder.path(), &LoadOptions::default()).unwrap();
    expected.retain(|(path, _, kind, _)| {
        let decoding = [ClassWithoutBoxes, TrainImageInVal, NearTrainImageInVal].contains(kind);
        !decoding && !path.ends_with("bits.png")
    });
    let got: Planted = loaded.faults.iter().map(|f| (f.path.clone(), f.line, f.kind, f.severity)).collect();
    assert_eq!(got, expected);
    assert!(loaded.has_errors());
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (folder, _) = planted();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| serde_json::to_string(&checked(folder.path())).unwrap())
    };
    assert_eq!(with(1), with(7));
}

#[test]
fn faulty_images_can_be_left_out() {
    let (folder, _) = planted();
    let loaded = index::load(folder.path(), &LoadOptions::default()).unwrap();
    let (kept, left_out) = without_faulty(&loaded.dataset, &checked(folder.path()).faults);
    let names = |items: &[Item]| -> Vec<String> {
        items.iter().map(|i| i.path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(names(&kept.train), ["edge", "flat", "named", "polygon", "t0", "t1", "t2", "t3", "twice"]);
    assert_eq!(kept.val.len(), loaded.dataset.val.len());
    // Of the 15 faulty files 7 images never could be indexed and one is a label file.
    assert_eq!(left_out.items, [8, 0, 0]);
    assert_eq!(left_out.files.len(), 15);
    assert!(left_out.files.contains(&folder.join("images/train/nan.png")));
    assert_ne!(kept.hash, loaded.dataset.hash);
    let (same, nothing) = without_faulty(&kept, &[]);
    assert_eq!((same.hash, nothing.items, nothing.files.len()), (kept.hash, [0; 3], 0));
}

#[test]
fn the_json_keeps_its_contract() {
    let folder = sound();
    folder.write("labels/train/t0.txt", "0 .5 .5 .2\n");
    let json: serde_json::Value = serde_json::to_value(checked(folder.path())).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!((&json["images"], &json["boxes"]), (&6.into(), &8.into()));
    assert_eq!(json["classes"], serde_json::json!(["a", "b"]));
    let fault = &json["faults"][0];
    assert_eq!(fault["path"], folder.join("labels/train/t0.txt").display().to_string());
    assert_eq!((&fault["line"], &fault["kind"]), (&1.into(), &"wrong_number_count".into()));
    assert_eq!(fault["severity"], "error");
    assert!(fault["message"].as_str().unwrap().contains("the row has 4 number(s)"));
    assert_eq!(fault["image"], folder.join("images/train/t0.png").display().to_string());
}

#[test]
fn a_set_that_cannot_be_loaded_is_one_fault() {
    let folder = sound();
    folder.write("data.yaml", YAML.replace("val:", "vall:"));
    let audit = checked(folder.path());
    assert_eq!(found(&audit), [(folder.join("data.yaml"), Some(2), FaultKind::DataSet, Severity::Error)]);
    assert_eq!(audit.faults[0].message, "unknown key `vall`: did you mean `val`?");
    assert!(!audit.ok);
    assert_eq!(checked("/no/such/data").faults[0].kind, FaultKind::DataSet);
}

#[test]
fn a_test_image_from_training_is_told_too() {
    let folder = sound();
    folder.write("data.yaml", format!("{YAML}test: images/test\n"));
    folder.pair("test", "copy", 2, "0 .5 .5 .2 .2\n");
    let expected =
        (folder.join("images/test/copy.png"), None, FaultKind::TrainImageInTest, Severity::Warning);
    assert_eq!(found(&checked(folder.path())), [expected]);
}

#[test]
fn an_unreadable_file_is_told_and_progress_reaches_its_end() {
    let folder = sound();
    fs::create_dir(folder.join("labels/train/dir.txt")).unwrap();
    folder.image("images/train/dir.png", picture(50));
    let seen = std::sync::Mutex::new(Vec::new());
    let audit = check(folder.path(), &CheckOptions::default(), &|p| seen.lock().unwrap().push(p));
    let expected = (folder.join("labels/train/dir.txt"), None, FaultKind::UnreadableLabel, Severity::Error);
    assert_eq!(found(&audit), [expected]);
    let seen = seen.into_inner().unwrap();
    for stage in [Stage::Scan, Stage::Decode] {
        assert!(seen.contains(&Progress { stage, done: 7, total: 7 }));
        assert_eq!(seen.iter().filter(|p| p.stage == stage).count(), 7);
    }
}

/// The bar for large sets: 10,000 images, of which one in twenty has a fault.
#[test]
fn ten_thousand_images_with_planted_faults() {
    use FaultKind::*;
    use Severity::*;
    let folder = Folder::new();
    folder.write("data.yaml", YAML);
    for name in ["images/train", "images/val", "labels/train", "labels/val"] {
        fs::create_dir_all(folder.join(name)).unwrap();
    }
    let files: Vec<Planted> = (0..10_000u64)
        .into_par_iter()
        .map(|i| {
            let split = if i % 5 == 4 { "val" } else { "train" };
            let image_path = folder.join(&format!("images/{split}/{i}.bmp"));
            let label_path = folder.join(&format!("labels/{split}/{i}.txt"));
            let mut image = encoded(fields(i, 3, 2), ImageFormat::Bmp);
            let mut label = format!("{} .5 .5 .25 .25\n{} .25 .25 .125 .25\n", i % 2, (i + 1) % 2);
            let at = |line, kind, severity| (label_path.clone(), Some(line), kind, severity);
            let mut faults = Vec::new();
            if i % 20 == 19 {
                match i / 20 % 10 {
                    0 => {
                        label += "2 .5 .5 .1 .1\n";
                        faults.push(at(3, ClassOutOfRange, Error));
                    }
                    1 => {
                        label += "0 .5 .5 .1\n";
                        faults.push(at(3, WrongNumberCount, Error));
                    }
                    2 => {
                        label.insert_str(0, "0 nan .5 .1 .1\n");
                        faults.push(at(1, NonFinite, Error));
                    }
                    3 => {
                        label.insert_str(0, "0 1.02 .5 .1 .1\n");
                        faults.push(at(1, CoordinatesOutOfRange, Error));
                    }
                    4 => {
                        label += &label.clone()[..label.find('\n').unwrap() + 1];
                        faults.push(at(3, DuplicateBox, Warning));
                    }
                    5 => {
                        image.clear();
                        faults.push((image_path.clone(), None, EmptyImage, Error));
                    }
                    6 => {
                        image.truncate(700);
                        faults.push((image_path.clone(), None, TruncatedImage, Error));
                    }
                    7 => {
                        label.clear();
                        faults.push((label_path.clone(), None, EmptyLabel, Warning));
                    }
                    8 => {
                        // 19 + 20 k lies in val, and 18 + 20 k in train.
                        image = encoded(fields(i - 1, 3, 2), ImageFormat::Bmp);
                        faults.push((image_path.clone(), None, TrainImageInVal, Warning));
                    }
                    _ => {
                        let mut near = fields(i - 1, 3, 2);
                        near.pixels_mut().for_each(|p| p.0[0] = p.0[0].saturating_add(3));
                        image = encoded(near, ImageFormat::Bmp);
                        faults.push((image_path.clone(), None, NearTrainImageInVal, Warning));
                    }
                }
            }
            fs::write(&image_path, image).unwrap();
            fs::write(&label_path, label).unwrap();
            faults
        })
        .collect();
    let mut expected: Planted = files.concat();
    expected.sort();
    assert_eq!(expected.len(), 500);
    let audit = checked(folder.path());
    // The differences alone: the whole report would be 500 lines.
    let found = found(&audit);
    let lacking = |these: &Planted, those: &Planted| -> Planted {
        these.iter().filter(|f| those.binary_search(f).is_err()).cloned().collect()
    };
    assert_eq!((lacking(&expected, &found), lacking(&found, &expected)), (vec![], vec![]));
    assert_eq!((found.len(), audit.images), (500, 10_000));
}

/// Folders of classes with one of each fault, and what must be told.
fn classified() -> (Folder, Planted) {
    use FaultKind::*;
    use Severity::*;
    let folder = Folder::new();
    let mut seed = 1000;
    for (split, class, n) in [("train", "a", 4), ("train", "b", 4), ("val", "a", 2), ("val", "b", 2)] {
        for i in 0..n {
            seed += 1;
            folder.image(&format!("{split}/{class}/p{seed}_{i}.png"), picture(seed));
        }
    }
    fs::create_dir_all(folder.join("train/empty")).unwrap();
    let mut faults: Planted = vec![(folder.join("train/empty"), None, ClassWithoutImages, Warning)];
    folder.image("train/only_here/x_0.png", picture(1));
    faults.push((folder.path().into(), None, ClassNotInVal, Warning));
    folder.image("val/unknown/x_1.png", picture(2));
    faults.push((folder.join("val/unknown"), None, ClassMismatch, Error));
    let jpeg = encoded(picture(3), ImageFormat::Jpeg);
    let cut = folder.write("train/a/cut.jpg", &jpeg[..jpeg.len() / 2]);
    faults.push((cut, None, TruncatedImage, Error));
    let mut damaged = encoded(picture(4), ImageFormat::Png);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xFF;
    faults.push((folder.write("val/b/bits.png", damaged), None, CorruptImage, Error));
    // The same pixels in another split, nearly so, and in another class.
    faults.push((folder.image("val/a/same.bmp", picture(1001)), None, TrainImageInVal, Warning));
    let copy = image::imageops::resize(&picture(1002), 96, 72, image::imageops::FilterType::Triangle);
    let near = folder.write("val/a/near.jpg", encoded(copy, ImageFormat::Jpeg));
    faults.push((near, None, NearTrainImageInVal, Warning));
    for class in ["a", "b"] {
        let twin = folder.image(&format!("train/{class}/twin.png"), picture(5));
        faults.push((twin, None, DuplicateOtherClass, Error));
    }
    folder.image("train/a/like.png", picture(6));
    let copy = image::imageops::resize(&picture(6), 96, 72, image::imageops::FilterType::Triangle);
    let like = folder.write("train/b/like.jpg", encoded(copy, ImageFormat::Jpeg));
    faults.push((like, None, NearDuplicateOtherClass, Warning));
    faults.sort();
    (folder, faults)
}

#[test]
fn a_classification_set_is_told_its_planted_faults() {
    let (folder, expected) = classified();
    let audit = checked(folder.path());
    assert_eq!(found(&audit), expected);
    assert_eq!((audit.ok, audit.task, audit.boxes), (false, "classify", 0));
    assert_eq!(audit.classes, ["a", "b", "empty", "only_here"]);
    assert_eq!(audit.images_per_class, [10, 9, 0, 1]);
    let far = CheckOptions { near: false, ..CheckOptions::default() };
    assert_eq!(check(folder.path(), &far, &|_| {}).faults.len(), expected.len() - 2);
    let as_detection = CheckOptions { task: AuditTask::Detect, ..CheckOptions::default() };
    assert_eq!(check(folder.path(), &as_detection, &|_| {}).faults[0].kind, FaultKind::DataSet);
}

#[test]
fn a_corrected_copy_of_classified_images_has_no_errors() {
    let (folder, _) = classified();
    // A group in training and validation too.
    folder.image("train/a/q_0.png", picture(7));
    folder.image("val/a/q_1.png", picture(8));
    folder.image("val/b/q_2.png", picture(9));
    let mut options = CheckOptions::default();
    options.load.splitting.group = crate::data::groups::GroupBy::parse("{group}_*").ok();
    let (audit, kept) = check_keeping(folder.path(), &options, &|_| {});
    assert!(audit.faults.iter().any(|f| f.kind == FaultKind::GroupLeak && f.is_error()));
    let output = folder.join("fixed");
    let fixed = write_fixed(&audit, kept.as_ref(), &output).unwrap();
    assert_eq!(fixed.changes.len(), audit.faults.len());
    let (again, _) = check_keeping(&output, &options, &|_| {});
    assert_eq!(again.faults.iter().filter(|f| f.is_error()).collect::<Vec<_>>(), Vec::<&Fault>::new());
    assert_eq!(again.images, fixed.images);
    assert_eq!(fixed.images + fixed.left_out, audit.images);
    assert!(!output.join("val/a/q_1.png").exists() && output.join("train/a/q_0.png").exists());
    assert!(!output.join("train/a/twin.png").exists() && !output.join("val/a/same.bmp").exists());
}

#[test]
fn tables_and_idx_files_are_checked_and_corrected_in_their_form() {
    let folder = Folder::new();
    for i in 0..5 {
        folder.image(&format!("{i}.png"), picture(i));
    }
    folder.image("again.png", picture(0));
    let rows = "image,label,split,patient\n0.png,\"a, or so\",train,x\n1.png,b,train,y\n2.png,\"a, or so\",val,z\n\
                3.png,b,val,w\n4.png,b,train,y\n4.png,b,train,y\nagain.png,b,train,y\ngone.png,b,val,w\n";
    let table = folder.write("t.csv", rows);
    let (audit, kept) = check_keeping(&table, &CheckOptions::default(), &|_| {});
    let told: Vec<_> = audit.faults.iter().map(|f| (f.line, f.kind)).collect();
    assert_eq!(
        told,
        [
            (None, FaultKind::DuplicateOtherClass),
            (None, FaultKind::DuplicateOtherClass),
            (Some(7), FaultKind::ListedTwice),
            (Some(9), FaultKind::MissingImage),
        ]
    );
    let output = folder.join("fixed");
    write_fixed(&audit, kept.as_ref(), &output).unwrap();
    let text = fs::read_to_string(output.join("table.csv")).unwrap();
    let expected = "image,label,split,group\nimages/train/1.png,b,train,y\nimages/train/4.png,b,train,y\n\
                    images/val/2.png,\"a, or so\",val,z\nimages/val/3.png,b,val,w\n";
    assert_eq!(text, expected);

    let folder = Folder::new();
    let write = |name: &str, shape: &[u32], data: &[u8]| {
        let mut file = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|s| file.extend(s.to_be_bytes()));
        file.extend(data);
        folder.write(name, file);
    };
    // Two equal images of different classes, and one of validation that training has.
    write("train-images-idx3-ubyte", &[4, 1, 2], &[1, 2, 3, 4, 1, 2, 9, 9]);
    write("train-labels-idx1-ubyte", &[4], &[0, 1, 1, 0]);
    write("t10k-images-idx3-ubyte", &[2, 1, 2], &[3, 4, 7, 7]);
    write("t10k-labels-idx1-ubyte", &[2], &[1, 0]);
    let (audit, kept) = check_keeping(folder.path(), &CheckOptions::default(), &|_| {});
    let told: Vec<_> =
        audit.faults.iter().map(|f| (f.path.file_name().unwrap().to_str().unwrap(), f.kind)).collect();
    assert_eq!(
        told,
        [
            ("000000", FaultKind::TrainImageInVal),
            ("000000", FaultKind::DuplicateOtherClass),
            ("000002", FaultKind::DuplicateOtherClass),
        ]
    );
    let output = folder.join("fixed");
    assert_eq!(write_fixed(&audit, kept.as_ref(), &output).unwrap().images, 3);
    let seen = image::open(output.join("train/1/000001.png")).unwrap().into_luma8();
    assert_eq!(seen.into_raw(), [3, 4]);
}
