use super::*;
use crate::boxes::Label;
use crate::data::audit::Severity;
use crate::data::division::Splitting;
use crate::data::groups::GroupBy;
use crate::data::sample::{Folder, YAML, picture, sound};
use std::fs;

fn loaded(path: impl AsRef<Path>) -> Loaded {
    load(path.as_ref(), &LoadOptions::default()).unwrap()
}

fn refused(path: impl AsRef<Path>, options: &LoadOptions) -> String {
    load(path.as_ref(), options).unwrap_err().to_string()
}

/// File name, line, kind.
type Told = (String, Option<usize>, FaultKind);

/// Split sizes and faults.
fn shape(loaded: &Loaded) -> ([usize; 3], Vec<Told>) {
    let name = |f: &Fault| f.path.file_name().unwrap().to_string_lossy().into_owned();
    let faults = loaded.faults.iter().map(|f| (name(f), f.line, f.kind)).collect();
    (Split::ALL.map(|s| loaded.dataset.split(s).len()), faults)
}

fn fault(name: &str, line: Option<usize>, kind: FaultKind) -> Told {
    (name.into(), line, kind)
}

#[test]
fn a_yolo_set_by_its_yaml_or_its_folder() {
    let folder = sound();
    let by_yaml = loaded(folder.join("data.yaml"));
    assert_eq!(shape(&by_yaml), ([4, 2, 0], vec![]));
    assert_eq!(by_yaml.dataset, loaded(folder.path()).dataset);
    let item = &by_yaml.dataset.train[0];
    assert_eq!(item.path, folder.join("images/train/t0.png"));
    assert_eq!(item.label_path, Some(folder.join("labels/train/t0.txt")));
    assert_eq!((item.width, item.height), (64, 48));
    assert_eq!(item.labels[0], Label { class: 0, cx: 0.5, cy: 0.5, w: 0.25, h: 0.25 });
    assert_eq!(by_yaml.dataset.classes, ["a", "b"]);
}

#[test]
fn the_hash_follows_the_content_and_not_the_place() {
    let (one, two) = (sound(), sound());
    let hash = |f: &Folder| loaded(f.path()).dataset.hash;
    assert_eq!(hash(&one), hash(&two));
    assert_eq!(hash(&one).len(), 64);
    two.write("labels/train/t0.txt", "0 .5 .5 .25 .26\n");
    assert_ne!(hash(&one), hash(&two));
    let three = sound();
    fs::rename(three.join("images/train/t0.png"), three.join("images/train/u0.png")).unwrap();
    fs::rename(three.join("labels/train/t0.txt"), three.join("labels/train/u0.txt")).unwrap();
    assert_ne!(hash(&one), hash(&three));
    let four = sound();
    four.write("data.yaml", YAML.replace("0: a", "0: c"));
    assert_ne!(hash(&one), hash(&four));
}

#[test]
fn single_class_filter_and_fraction() {
    let folder = sound();
    folder.write("labels/train/t1.txt", "7 .5 .5 .1 .1\n0 .5 .5 .1 .1\n");
    let with = |options: LoadOptions| load(folder.path(), &options).unwrap();
    let single = with(LoadOptions { single_cls: true, ..LoadOptions::default() });
    assert_eq!(single.dataset.classes, ["item"]);
    assert_eq!(single.faults, []);
    assert!(single.dataset.train.iter().flat_map(|i| &i.labels).all(|l| l.class == 0));
    assert_eq!(single.dataset.train[1].labels.len(), 2);
    let only_b = with(LoadOptions { classes: Some(vec![1]), ..LoadOptions::default() });
    assert_eq!(only_b.dataset.train.iter().map(|i| i.labels.len()).collect::<Vec<_>>(), [1, 0, 1, 1]);
    assert!(only_b.dataset.train[0].labels[0].class == 1);
    let half = with(LoadOptions { fraction: 0.5, ..LoadOptions::default() });
    assert_eq!(shape(&half).0, [2, 2, 0]);
    assert!(half.dataset.train[1].path.ends_with("t1.png"));
    let wrong = LoadOptions { classes: Some(vec![2]), ..LoadOptions::default() };
    assert!(
        refused(folder.path(), &wrong).contains("classes= holds 2, but the data set has 2 class(es), 0 to 1")
    );
    for fraction in [0.0, -1.0, 1.5, f64::NAN] {
        let wrong = LoadOptions { fraction, ..LoadOptions::default() };
        assert!(refused(folder.path(), &wrong).contains("fraction="), "{fraction}");
    }
}

#[test]
fn list_files_and_lists_of_them() {
    let folder = sound();
    let far = folder.join("images/train/t3.png");
    folder.write("lists/a.txt", "\u{feff}../images/train/t0.png\n\nimages/train/t1.png\r\n./gone.png\n");
    folder.write("lists/b.txt", format!("{}\nimages/train/t1.png\nnotes.doc\n", far.display()));
    folder.write("data.yaml", "train: [lists/a.txt, lists/b.txt]\nval: images/val/v0.png\nnames: [a, b]\n");
    let loaded = loaded(folder.path());
    let expected = vec![
        fault("a.txt", Some(4), FaultKind::MissingImage),
        fault("b.txt", Some(2), FaultKind::ListedTwice),
        fault("b.txt", Some(3), FaultKind::MissingImage),
    ];
    assert_eq!(shape(&loaded), ([3, 1, 0], expected));
    assert_eq!(loaded.images, 5);
    // A list may name a part of a folder, but a label whose image is nowhere is an error.
    folder.write("labels/train/orphan.txt", "0 .5 .5 .1 .1\n");
    let faults = load(folder.path(), &LoadOptions::default()).unwrap().faults;
    assert!(faults.iter().any(|f| f.kind == FaultKind::LabelWithoutImage && f.path.ends_with("orphan.txt")));
}

#[test]
fn labels_beside_the_images_and_roboflows_paths() {
    let folder = Folder::new();
    folder.write("data.yaml", "train: ../train\nval: ../valid\nnc: 1\nnames: ['x']\n");
    for (name, seed) in [("train/p.png", 1), ("train/q.png", 2), ("valid/r.png", 3)] {
        folder.image(name, picture(seed));
        folder.write(&name.replace("png", "txt"), "0 .5 .5 .5 .5\n");
    }
    folder.write("train/classes.txt", "x\n");
    folder.write("train/._p.png", "hidden");
    assert_eq!(shape(&loaded(folder.path())), ([2, 1, 0], vec![]));
    folder.write("train/s.txt", "0 .5 .5 .5 .5\n");
    let expected = vec![fault("s.txt", None, FaultKind::LabelWithoutImage)];
    assert_eq!(shape(&loaded(folder.path())).1, expected);
}

#[test]
fn the_root_is_found_or_its_line_named() {
    let folder = sound();
    let yaml = |path: &str| folder.write("data.yaml", format!("path: {path}\n{YAML}"));
    yaml(&folder.path().display().to_string());
    assert_eq!(shape(&loaded(folder.path())).0, [4, 2, 0]);
    yaml("../elsewhere");
    let message = refused(folder.path(), &LoadOptions::default());
    assert!(message.contains("data.yaml:1: `path: ../elsewhere` is no folder"), "{message}");
    // A set that was moved: `path` still names its folder.
    let name = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    yaml(&format!("/gone/{name}"));
    assert_eq!(shape(&loaded(folder.path())).0, [4, 2, 0]);
}

#[test]
fn what_cannot_be_loaded_says_why() {
    let options = LoadOptions::default();
    let folder = sound();
    folder.write("data.yaml", "train: images/train\nval: images/vall\nnames: [a, b]\n");
    assert!(refused(folder.path(), &options).contains("data.yaml:2: `val: images/vall` does not exist"));
    folder.write("data.yaml", "train: https://x.org/a.zip\nval: images/val\nnames: [a, b]\n");
    assert!(refused(folder.path(), &options).contains("onsa downloads nothing"));
    folder.write("images/empty/readme.md", "");
    folder.write("data.yaml", "train: images/empty\nval: images/val\nnames: [a, b]\n");
    assert!(refused(folder.path(), &options).contains("there is no image to train on"));
    assert!(refused("/no/such/data", &options).contains("does not exist"));
    assert!(refused(Folder::new().path(), &options).contains("is no data set that is known here"));
    let text = folder.write("a.csv", "");
    assert!(refused(text, &options).contains("is no data set that is known here"));
}

#[test]
fn a_missing_validation_split_is_made_and_said() {
    let folder = Folder::new();
    folder.write("data.yaml", "train: images/train\nnames: [a]\n");
    for i in 0..10 {
        folder.pair("train", &format!("i{i}"), i, "0 .5 .5 .5 .5\n");
    }
    let first = loaded(folder.path());
    assert_eq!(shape(&first), ([8, 2, 0], vec![fault("data.yaml", None, FaultKind::SplitMade)]));
    assert_eq!(first.faults[0].severity, Severity::Warning);
    assert_eq!(first.dataset, loaded(folder.path()).dataset);
    assert!(first.dataset.train.is_sorted_by_key(|i| &i.path));
    // The same names elsewhere split alike.
    let other = Folder::new();
    other.write("data.yaml", "train: images/train\nnames: [a]\n");
    for i in 0..10 {
        other.pair("train", &format!("i{i}"), i, "0 .5 .5 .5 .5\n");
    }
    assert_eq!(loaded(other.path()).dataset.hash, first.dataset.hash);
}

const COCO: &str = r#"{"categories": [{"id": 2, "name": "b"}, {"id": 1, "name": "a"}],
"images": [{"id": 1, "file_name": "x.png", "width": 64, "height": 48},
 {"id": 2, "file_name": "y.png", "width": 64, "height": 48}],
"annotations": [{"image_id": 1, "category_id": 2, "bbox": [16, 12, 32, 24]},
 {"image_id": 2, "category_id": 1, "bbox": [0, 0, 64, 48]}]}"#;

#[test]
fn coco_in_its_own_layout() {
    let folder = Folder::new();
    folder.write("annotations/instances_train2017.json", COCO);
    let val = COCO.replace("x.png", "v.png").replace("y.png", "gone.png").replace("48, 48", "48");
    folder.write("annotations/instances_val2017.json", val);
    folder.write("annotations/captions_val2017.json", "{}");
    folder.image("train2017/x.png", picture(1));
    folder.image("train2017/y.png", picture(2));
    folder.image("train2017/z.png", picture(3));
    folder.image("val2017/v.png", picture(4));
    let set = loaded(folder.path());
    let expected = vec![
        fault("captions_val2017.json", None, FaultKind::IgnoredFile),
        fault("instances_val2017.json", Some(3), FaultKind::MissingImage),
        fault("z.png", None, FaultKind::ImageNotListed),
    ];
    assert_eq!(shape(&set), ([2, 1, 0], expected));
    assert_eq!(set.form, Form::Coco);
    assert_eq!(set.dataset.classes, ["a", "b"]);
    let x = &set.dataset.train[0];
    assert_eq!(x.labels, [Label { class: 1, cx: 0.5, cy: 0.5, w: 0.5, h: 0.5 }]);
    assert_eq!(x.label_path, Some(folder.join("annotations/instances_train2017.json")));
}

#[test]
fn coco_by_one_file_or_roboflows_folders() {
    let folder = Folder::new();
    let json = folder.write("boxes.json", COCO);
    folder.image("images/x.png", picture(1));
    folder.image("images/y.png", picture(2));
    for path in [folder.path(), &json] {
        assert_eq!(shape(&loaded(path)).0, [1, 1, 0]);
    }
    let folder = Folder::new();
    for split in ["train", "valid"] {
        // The second file orders its categories otherwise: names decide.
        let ids = if split == "valid" {
            COCO.replace("\"id\": 2, \"name\"", "\"id\": 0, \"name\"")
        } else {
            COCO.into()
        };
        let ids =
            if split == "valid" { ids.replace("\"category_id\": 2", "\"category_id\": 0") } else { ids };
        folder.write(&format!("{split}/_annotations.coco.json"), ids);
        folder.image(&format!("{split}/x.png"), picture(1));
        folder.image(&format!("{split}/y.png"), picture(2));
    }
    let set = loaded(folder.path());
    assert_eq!(shape(&set), ([2, 2, 0], vec![]));
    assert_eq!(set.dataset.train[0].labels, set.dataset.val[0].labels);
    fs::write(folder.join("train/_annotations.coco.json"), "{\n\n]").unwrap();
    assert!(
        refused(folder.path(), &LoadOptions::default())
            .contains("_annotations.coco.json:3: this is not COCO JSON")
    );
}

fn voc(name: &str, objects: &[(&str, [u32; 4])]) -> String {
    let object = |(name, [a, b, c, d]): &(&str, [u32; 4])| {
        format!(
            "\n<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>\
             <ymax>{d}</ymax></bndbox></object>"
        )
    };
    let objects: String = objects.iter().map(object).collect();
    format!(
        "<annotation><filename>{name}</filename><size><width>64</width><height>48</height></size>{objects}\n</annotation>"
    )
}

#[test]
fn voc_with_image_sets() {
    let folder = Folder::new();
    for (i, name) in ["p", "q", "r", "s"].into_iter().enumerate() {
        folder.image(&format!("JPEGImages/{name}.jpg"), picture(i as u64));
    }
    folder.write("Annotations/p.xml", voc("p.jpg", &[("fir", [16, 12, 48, 36]), ("asp", [0, 0, 64, 48])]));
    folder.write("Annotations/q.xml", voc("q.jpg", &[("fir", [16, 12, 80, 36])]));
    folder.write("Annotations/r.xml", voc("r.jpg", &[]));
    folder.write("Annotations/t.xml", voc("t.jpg", &[("fir", [16, 12, 48, 36])]));
    folder.write("ImageSets/Main/train.txt", "p\nq  1\nu\n");
    folder.write("ImageSets/Main/val.txt", "r\np\n");
    let set = loaded(folder.path());
    let expected = vec![
        fault("q.xml", Some(2), FaultKind::CoordinatesOutOfRange),
        fault("r.xml", None, FaultKind::EmptyLabel),
        fault("t.xml", None, FaultKind::LabelWithoutImage),
        fault("train.txt", Some(3), FaultKind::MissingImage),
        fault("val.txt", Some(2), FaultKind::ListedTwice),
        fault("s.jpg", None, FaultKind::ImageNotListed),
    ];
    assert_eq!(shape(&set), ([2, 1, 0], expected));
    assert_eq!(set.dataset.classes, ["asp", "fir"]);
    assert_eq!(set.dataset.train[0].labels[0], Label { class: 1, cx: 0.5, cy: 0.5, w: 0.5, h: 0.5 });
}

#[test]
fn voc_in_split_folders_and_flat() {
    let folder = Folder::new();
    for (split, seed) in [("train", 1), ("valid", 2)] {
        folder.image(&format!("{split}/same.jpg"), picture(seed));
        folder.write(&format!("{split}/same.xml"), voc("same.jpg", &[("fir", [16, 12, 48, 36])]));
    }
    assert_eq!(shape(&loaded(folder.path())), ([1, 1, 0], vec![]));
    let flat = Folder::new();
    for i in 0..5 {
        flat.image(&format!("{i}.jpg"), picture(i));
        flat.write(&format!("{i}.xml"), voc("", &[("fir", [16, 12, 48, 36])]));
    }
    flat.image("bare.jpg", picture(9));
    let set = loaded(flat.path());
    assert_eq!(shape(&set).0, [5, 1, 0]);
    assert!(set.faults.iter().any(|f| f.kind == FaultKind::MissingLabel && f.path.ends_with("bare.jpg")));
}

/// Ten images of each of five patients, and no validation split.
fn patients() -> Folder {
    let folder = Folder::new();
    folder.write("data.yaml", "train: images/train\nnames: [a]\n");
    for patient in 0..5 {
        for i in 0..10 {
            folder.pair("train", &format!("p{patient}_{i}"), patient * 100 + i, "0 .5 .5 .5 .5\n");
        }
    }
    folder
}

fn by(group: &str) -> LoadOptions {
    let splitting = Splitting { group: Some(GroupBy::parse(group).unwrap()), ..Splitting::default() };
    LoadOptions { splitting, ..LoadOptions::default() }
}

#[test]
fn whole_groups_go_to_validation() {
    let folder = patients();
    let load = |options: &LoadOptions| load(folder.path(), options).unwrap();
    let group = |item: &Item| item.path.file_name().unwrap().to_string_lossy()[..2].to_owned();
    let groups = |items: &[Item]| items.iter().map(group).collect::<std::collections::BTreeSet<_>>();
    let alone = load(&LoadOptions::default());
    assert_eq!(shape(&alone).0, [40, 10, 0]);
    assert!(!groups(&alone.dataset.train).is_disjoint(&groups(&alone.dataset.val)), "else nothing is tested");
    let grouped = load(&by("{group}_*"));
    assert_eq!(shape(&grouped).0, [40, 10, 0]);
    assert!(groups(&grouped.dataset.train).is_disjoint(&groups(&grouped.dataset.val)));
    assert!(grouped.dataset.train.iter().all(|item| item.group.as_deref() == Some(&group(item))));
    // The same by a table, whose paths start from it.
    let rows: String =
        (0..5).flat_map(|p| (0..10).map(move |i| format!("../images/train/p{p}_{i}.png,p{p}\n"))).collect();
    let table = folder.write("lists/groups.csv", format!("image,patient\n{rows}"));
    assert_eq!(load(&by(&table.display().to_string())).dataset, grouped.dataset);
    let mut wide = by("{group}_*");
    wide.splitting.val_fraction = 0.4;
    assert_eq!(shape(&load(&wide)).0, [30, 20, 0]);
}

#[test]
fn a_group_on_both_sides_is_an_error_and_leaves_validation_or_is_divided_anew() {
    let folder = sound();
    folder.write("data.yaml", YAML);
    for (split, name, seed) in
        [("train", "q_0", 50), ("train", "q_1", 51), ("val", "q_2", 52), ("val", "q_3", 53)]
    {
        folder.pair(split, name, seed, "0 .5 .5 .5 .5\n");
    }
    let loaded = load(folder.path(), &by("{group}_*")).unwrap();
    let expected =
        vec![fault("data.yaml", None, FaultKind::NoGroup), fault("q_2.png", None, FaultKind::GroupLeak)];
    assert_eq!(shape(&loaded), ([6, 4, 0], expected));
    let leak = &loaded.faults[1];
    assert!(leak.is_error() && leak.message.contains("`q` has 2 image(s) in training and 2 in validation"));
    assert!(loaded.faults[0].message.starts_with("6 of 10 images have no group"), "{}", loaded.faults[0]);
    let (kept, left_out) = crate::data::audit::without_faulty(&loaded.dataset, &loaded.faults);
    assert_eq!((kept.train.len(), kept.val.len(), left_out.items), (6, 2, [0, 2, 0]));
    assert_eq!(left_out.files.len(), 2);
    let anew = |fraction| {
        let splitting = Splitting { resplit: true, val_fraction: fraction, ..by("{group}_*").splitting };
        load(folder.path(), &LoadOptions { splitting, ..LoadOptions::default() }).unwrap()
    };
    for fraction in [0.2, 0.3, 0.5] {
        let loaded = anew(fraction);
        assert!(!loaded.has_errors(), "{:?}", loaded.faults);
        let (train, val) = (loaded.dataset.train.len(), loaded.dataset.val.len());
        assert!(train + val == 10 && val >= 1, "{train} {val}");
    }
}

#[test]
fn a_rule_that_fits_no_image_or_no_form_is_refused() {
    let folder = patients();
    let refuse = |group: &str| refused(folder.path(), &by(group));
    let message = refuse("{group}+*");
    assert!(
        message.contains("group={group}+* tells no image's group") && message.contains("p0_0.png"),
        "{message}"
    );
    assert!(refuse("patient").contains("a column's name needs a data set that is a .csv table"));
    let table = folder.write("groups.csv", "image,group\np0_0.png,a\np0_0.png,b\n");
    let message = refuse(&table.display().to_string());
    assert!(message.contains("groups.csv:3") && message.contains("another group"), "{message}");
    let table = folder.write("groups.csv", "image,who\np0_0.png,a\n");
    assert!(refuse(&table.display().to_string()).contains("no column"));
}
