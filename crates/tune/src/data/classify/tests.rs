use std::io::Write;

use super::*;
use crate::data::raster::Rgb8;
use crate::data::rng::{Draw, Purpose};

fn picture(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(20, 12, image::Rgb([9, 8, 7])).save(path).unwrap();
}

fn counts(dataset: &Dataset) -> [usize; 3] {
    Split::ALL.map(|split| dataset.split(split).len())
}

#[test]
fn folders_are_classes_and_train_and_test_are_splits() {
    let folder = tempfile::tempdir().unwrap();
    for (split, class, n) in [("train", "b", 3), ("train", "a", 2), ("test", "a", 1), ("test", "b", 1)] {
        (0..n).for_each(|i| picture(&folder.path().join(split).join(class).join(format!("{i}.png"))));
    }
    let loaded = load(folder.path(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.dataset.classes, ["a", "b"]);
    assert_eq!(counts(&loaded.dataset), [5, 2, 0]);
    assert!(loaded.faults.is_empty(), "{:?}", loaded.faults);
    let item = &loaded.dataset.train[4];
    assert_eq!((item.labels[0].class, item.width, item.height), (1, 20, 12));
    // A class that only the test split has cannot be learnt.
    picture(&folder.path().join("test/c/0.png"));
    let loaded = load(folder.path(), &LoadOptions::default()).unwrap();
    assert!(loaded.faults[0].is_error() && loaded.faults[0].message.contains("`c`"), "{:?}", loaded.faults);
}

#[test]
fn without_splits_a_fifth_of_each_class_is_kept_for_validation() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["oak", "elm"] {
        (0..10).for_each(|i| picture(&folder.path().join(class).join(format!("{i}.png"))));
    }
    let loaded = load(folder.path(), &LoadOptions::default()).unwrap();
    assert_eq!(counts(&loaded.dataset), [16, 4, 0]);
    for class in 0..2 {
        assert_eq!(loaded.dataset.val.iter().filter(|item| item.labels[0].class == class).count(), 2);
    }
    assert_eq!(loaded.faults[0].kind, FaultKind::SplitMade);
    assert_eq!(load(folder.path(), &LoadOptions::default()).unwrap().dataset, loaded.dataset);
    let half = load(folder.path(), &LoadOptions { fraction: 0.5, ..LoadOptions::default() }).unwrap();
    assert_eq!(counts(&half.dataset), [8, 4, 0]);
    assert_ne!(half.dataset.hash, loaded.dataset.hash);
}

fn table(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("table.csv");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_table_names_image_class_split_and_group() {
    let folder = tempfile::tempdir().unwrap();
    (0..12).for_each(|i| picture(&folder.path().join(format!("{i}.png"))));
    let rows: String =
        (0..12).map(|i| format!("{i}.png, {}, p{}\n", if i % 2 == 0 { 10 } else { 2 }, i / 3)).collect();
    let path = table(folder.path(), &format!("File,Label,patient\n{rows}"));
    let loaded = load(&path, &LoadOptions::default()).unwrap();
    assert_eq!(loaded.dataset.classes, ["2", "10"], "numbers in their own order");
    // Whole patients move.
    assert_eq!(counts(&loaded.dataset), [9, 3, 0]);
    let number = |item: &Item| item.path.file_stem().unwrap().to_str().unwrap().parse::<usize>().unwrap();
    let patient = number(&loaded.dataset.val[0]) / 3;
    assert!(loaded.dataset.val.iter().all(|item| number(item) / 3 == patient));

    let path =
        table(folder.path(), "file,label,split,group\n0.png,a,train,x\n1.png,b,train,y\n2.png,a,val,x\n");
    let leak = load(&path, &LoadOptions::default()).unwrap().faults;
    let kinds: Vec<_> = leak.iter().map(|f| (f.line, f.kind)).collect();
    assert_eq!(kinds, [(Some(3), FaultKind::ClassNotInVal), (Some(4), FaultKind::GroupLeak)]);
    assert!(leak[1].is_error() && leak[1].message.contains("`x`"), "{}", leak[1]);
    // A column of another name, and a division anew that mends it.
    let path =
        table(folder.path(), "file,label,split,site\n0.png,a,train,x\n1.png,a,train,y\n2.png,a,val,x\n");
    let splitting = |resplit| {
        let group = Some(GroupBy::parse("site").unwrap());
        let splitting = Splitting { group, val_fraction: 0.4, resplit };
        LoadOptions { splitting, ..LoadOptions::default() }
    };
    let faults = load(&path, &splitting(false)).unwrap().faults;
    assert!(faults.iter().any(|f| f.kind == FaultKind::GroupLeak), "{faults:?}");
    let anew = load(&path, &splitting(true)).unwrap();
    assert!(!anew.faults.iter().any(Fault::is_error), "{:?}", anew.faults);
    let splitting = Splitting { group: Some(GroupBy::parse("ward").unwrap()), ..Splitting::default() };
    let wrong = LoadOptions { splitting, ..LoadOptions::default() };
    assert!(load(&path, &wrong).unwrap_err().to_string().contains("no column `ward`"));
}

#[test]
fn a_table_s_faults_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    (0..2).for_each(|i| picture(&folder.path().join(format!("{i}.png"))));
    let path = table(
        folder.path(),
        "file,label,split\n0.png,a,train\n,a,train\n9.png,a,val\n1.png,b,maybe\n1.png,b,val\n",
    );
    let faults = load(&path, &LoadOptions::default()).unwrap().faults;
    let mut lines: Vec<_> = faults.iter().map(|f| (f.line, f.kind)).collect();
    lines.sort_by_key(|(line, _)| *line);
    assert_eq!(
        lines,
        [
            (Some(3), FaultKind::MalformedLabel),
            (Some(4), FaultKind::MissingImage),
            (Some(5), FaultKind::MalformedLabel),
            // Its training row does not count.
            (Some(6), FaultKind::ClassMismatch)
        ]
    );
    let path = table(folder.path(), "name,label\n0.png,a\n");
    let message = load(&path, &LoadOptions::default()).unwrap_err().to_string();
    assert!(message.contains("table.csv:1") && message.contains("image paths"), "{message}");
}

#[test]
fn idx_files_are_a_data_set_and_decode_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, shape: &[u32], data: &[u8]| {
        let mut file = std::fs::File::create(folder.path().join(name)).unwrap();
        file.write_all(&[0, 0, 8, shape.len() as u8]).unwrap();
        shape.iter().for_each(|s| file.write_all(&s.to_be_bytes()).unwrap());
        file.write_all(data).unwrap();
    };
    write("train-images-idx3-ubyte", &[3, 1, 2], &[1, 2, 3, 4, 5, 6]);
    write("train-labels-idx1-ubyte", &[3], &[0, 2, 1]);
    write("t10k-images-idx3-ubyte", &[1, 1, 2], &[7, 8]);
    write("t10k-labels-idx1-ubyte", &[1], &[2]);
    let loaded = load(folder.path(), &LoadOptions::default()).unwrap();
    assert_eq!(loaded.dataset.classes, ["0", "1", "2"]);
    assert_eq!(counts(&loaded.dataset), [3, 1, 0]);
    let store = idx::IdxStore::default();
    let item = &loaded.dataset.train[1];
    let image = decode_idx(&store, &item.path).unwrap().unwrap();
    assert_eq!((image.width, image.height, &image.data[..]), (2, 1, &[3, 3, 3, 4, 4, 4][..]));
    assert_eq!((item.width, item.height, item.labels[0].class), (2, 1, 2));
    let beyond = folder.path().join("t10k-images-idx3-ubyte/000001");
    assert!(decode_idx(&store, &beyond).unwrap().unwrap_err().to_string().contains("none of number 1"));
    assert!(decode_idx(&store, &folder.path().join("x.png")).is_none());
}

#[test]
fn crops_lie_within_the_image_and_have_the_ratio() {
    let mut areas = Vec::new();
    for item in 0..300 {
        let mut draw = Draw::new(3, 1, item, Purpose::Crop);
        let crop = CropArea::draw(&mut draw, (120, 90), 0.5);
        assert!(crop.left + crop.width <= 120 && crop.top + crop.height <= 90);
        let ratio = crop.width as f64 / crop.height as f64;
        assert!((0.72..1.39).contains(&ratio), "{ratio}");
        areas.push((crop.width * crop.height) as f64 / (120.0 * 90.0));
    }
    let (low, high) = areas.iter().fold((1.0f64, 0.0f64), |(l, h), &a| (l.min(a), h.max(a)));
    assert!((0.48..0.56).contains(&low) && high > 0.93, "{low} {high}");
    // Too narrow: the middle.
    let crop = CropArea::draw(&mut Draw::new(0, 0, 0, Purpose::Crop), (1000, 10), 0.9);
    assert_eq!(crop, CropArea { left: 493, top: 0, width: 13, height: 10 });
}

#[test]
fn a_sample_depends_on_its_address_alone() {
    let augment = ClassifyAugment {
        scale: 0.5,
        fliplr: 0.5,
        flipud: 0.0,
        rand_augment: true,
        hsv: (0.015, 0.7, 0.4),
        erasing: 0.4,
    };
    let image = Rgb8::new(40, 30, (0..40 * 30 * 3).map(|i| (i % 251) as u8).collect()).unwrap();
    let render = |epoch, item| augment.draw(7, epoch, item, (40, 30), 24).render(&image, 24);
    assert_eq!(render(2, 5), render(2, 5));
    assert_ne!(render(2, 5), render(3, 5));
    assert_ne!(render(2, 5), render(2, 6));
    let erased = (0..400).filter(|&i| augment.draw(7, 0, i, (40, 30), 24).erased.is_some()).count();
    assert!((120..200).contains(&erased), "{erased}");
    let plain = ClassifyAugment {
        scale: 0.0,
        fliplr: 0.0,
        rand_augment: false,
        hsv: (0.0, 0.0, 0.0),
        erasing: 0.0,
        ..augment
    };
    let whole = plain.draw(7, 0, 0, (24, 24), 24);
    let square = Rgb8::filled(24, 24, 90);
    assert_eq!(whole.render(&square, 24), square);
}
