//! Data sets through the API: import, report, pages, boxes, versions, export.
#![allow(clippy::unwrap_used, reason = "helpers outside of test functions may fail the test, too")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Running;
use serde_json::{Value, json};

fn picture(path: &Path, shade: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_fn(64, 48, |x, y| image::Rgb([shade, (x * 3) as u8, (y * 5) as u8]))
        .save(path)
        .unwrap();
}

/// Six pictures; the names are meant to trouble: a class that is HTML, a label with a fault in line 2.
fn data_set(root: &Path) {
    let set = root.join("birds");
    for i in 0..6_u8 {
        let split = if i < 4 { "train" } else { "val" };
        picture(&set.join(format!("images/{split}/p{i}.png")), i * 40);
        let label = set.join(format!("labels/{split}/p{i}.txt"));
        std::fs::create_dir_all(label.parent().unwrap()).unwrap();
        std::fs::write(&label, format!("{} 0.5 0.5 0.25 0.5\n", i % 2)).unwrap();
    }
    std::fs::write(set.join("labels/train/p3.txt"), "0 0.5 0.5 0.25 0.5\n7 0.5 0.5 0.1 0.1\n").unwrap();
    std::fs::write(
        set.join("data.yaml"),
        "train: images/train\nval: images/val\nnames: [\"<img src=x onerror=alert(1)>\", crow]\n",
    )
    .unwrap();
}

fn start() -> (Running, i64) {
    let studio = Running::start(|_, root| data_set(root));
    let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
    let listing = studio.json("GET", &format!("/api/folders/{top}"), "");
    assert_eq!(listing["folders"][0]["is_dataset"], json!(true));
    let folder = listing["folders"][0]["id"].as_i64().unwrap();
    let new = json!({"name": "Birds", "from": {"folder": folder}}).to_string();
    let id = studio.json("POST", "/api/datasets", &new)["id"].as_i64().unwrap();
    until(|| {
        let versions = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
        versions["versions"].as_array().is_some_and(|all| !all.is_empty())
    });
    (studio, id)
}

fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn images(studio: &Running, id: i64, query: &str) -> Vec<Value> {
    studio.json("GET", &format!("/api/datasets/{id}/images?{query}"), "")["images"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn a_folder_becomes_rows_a_report_and_a_first_version_that_leaves_out_what_is_wrong() {
    let (studio, id) = start();
    let set = studio.json("GET", &format!("/api/datasets/{id}"), "");
    assert_eq!(set["state"], "ready");
    assert_eq!(
        set["splits"],
        json!([
        {"split": "train", "images": 4, "boxes": 4}, {"split": "val", "images": 2, "boxes": 2}])
    );
    let audit = studio.json("GET", &format!("/api/datasets/{id}/audit"), "");
    assert_eq!(audit["ok"], json!(false));
    let fault = &audit["faults"][0];
    assert_eq!((fault["path"].as_str(), fault["line"].as_i64()), (Some("labels/train/p3.txt"), Some(2)));
    assert_eq!(images(&studio, id, "only=faulty").len(), 1);
    assert_eq!(images(&studio, id, "split=val").len(), 2);
    assert_eq!(images(&studio, id, "class=1").len(), 2);
    assert_eq!(images(&studio, id, "class=1&split=val").len(), 1);
    assert_eq!(images(&studio, id, "offset=4&limit=1")[0]["name"], "p4.png");
    let versions = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
    assert_eq!(versions["versions"][0]["images"], json!(5), "the image with the wrong line is left out");
    let histograms = studio.json("GET", &format!("/api/datasets/{id}/histograms"), "");
    assert_eq!(histograms["classes"][0]["name"], "<img src=x onerror=alert(1)>");
    assert_eq!(histograms["per_image"][1], json!(6));
}

#[test]
fn boxes_are_kept_checked_and_guarded_against_two_writers() {
    let (studio, id) = start();
    let image = images(&studio, id, "only=faulty")[0].clone();
    let path = format!("/api/images/{}/boxes", image["id"]);
    let save = |revision: i64, boxes: Value| {
        studio.ask("PUT", &path, &json!({"revision": revision, "boxes": boxes}).to_string())
    };
    assert_eq!(save(0, json!([[5, 0.5, 0.5, 0.1, 0.1]])).status, 400, "no such class");
    assert_eq!(save(0, json!([[0, 0.99, 0.5, 0.1, 0.1]])).status, 400, "outside");
    let saved = save(0, json!([[1, 0.5, 0.5, 0.1, 0.25], [0, 0.25, 0.25, 0.5, 0.5]]));
    assert_eq!(saved.status, 200, "{}", saved.text());
    assert_eq!(save(0, json!([])).status, 409, "the second writer starts from an old revision");
    let now = studio.json("GET", &format!("/api/images/{}", image["id"]), "");
    assert_eq!(now["boxes"], json!([[1, 0.5, 0.5, 0.1, 0.25], [0, 0.25, 0.25, 0.5, 0.5]]));
    assert_eq!(images(&studio, id, "class=1").len(), 3, "the filter follows");
    // Reviewed by a person: the next version has the image, with the new boxes; the first one stays as it was.
    let made = studio.json("POST", &format!("/api/datasets/{id}/versions"), r#"{"note":"mended"}"#);
    assert_eq!(
        (made["number"].as_i64(), made["images"].as_i64(), made["boxes"].as_i64()),
        (Some(2), Some(6), Some(7))
    );
    let again = studio.json("POST", &format!("/api/datasets/{id}/versions"), r#"{"note":"x"}"#);
    assert_eq!(again["id"], made["id"], "nothing has changed");
    let versions = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
    assert_ne!(versions["versions"][0]["hash"], versions["versions"][1]["hash"]);
    let first = studio.dir.path().join(format!("datasets/{id}/versions/1/labels/train/p3.txt"));
    assert!(!first.exists());
    let second = studio.dir.path().join(format!("datasets/{id}/versions/2/labels/train/p3.txt"));
    assert_eq!(std::fs::read_to_string(second).unwrap(), "1 0.5 0.5 0.1 0.25\n0 0.25 0.25 0.5 0.5\n");
    // The person's own folder is read and never written.
    let own = studio.root.path().join("birds/labels/train/p3.txt");
    assert_eq!(std::fs::read_to_string(own).unwrap(), "0 0.5 0.5 0.25 0.5\n7 0.5 0.5 0.1 0.1\n");
}

#[test]
fn a_version_leaves_as_yolo_and_as_coco() {
    let (studio, id) = start();
    let version =
        studio.json("GET", &format!("/api/datasets/{id}/versions"), "")["versions"][0]["id"].clone();
    let zip = |form: &str| {
        let answer = studio.ask("GET", &format!("/api/versions/{version}/export?format={form}"), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.head.contains("attachment; filename=\"birds-v1-"), "{}", answer.head);
        zip::ZipArchive::new(std::io::Cursor::new(answer.body)).unwrap()
    };
    let mut yolo = zip("yolo");
    let names: Vec<String> = yolo.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert!(
        names.contains(&"images/val/p5.png".into()) && names.contains(&"labels/val/p5.txt".into()),
        "{names:?}"
    );
    let text = std::io::read_to_string(yolo.by_name("labels/val/p5.txt").unwrap()).unwrap();
    assert_eq!(text, "1 0.5 0.5 0.25 0.5\n");
    let mut coco = zip("coco");
    let document: Value =
        serde_json::from_reader(coco.by_name("annotations/instances_val.json").unwrap()).unwrap();
    assert_eq!(document["annotations"][1]["bbox"], json!([24.0, 12.0, 16.0, 24.0]));
    assert_eq!(document["annotations"][1]["category_id"], json!(2));
    assert_eq!(studio.ask("GET", &format!("/api/versions/{version}/export?format=x"), "").status, 400);
}

#[test]
fn dividing_is_repeatable_and_keeps_groups_together() {
    let (studio, id) = start();
    let divide = |body: &str| studio.ask("POST", &format!("/api/datasets/{id}/split"), body).status;
    assert_eq!(divide(r#"{"val":1.5}"#), 400);
    assert_eq!(divide(r#"{"val":0.5}"#), 200);
    let names = |split: &str| -> Vec<Value> {
        images(&studio, id, &format!("split={split}")).iter().map(|image| image["name"].clone()).collect()
    };
    let first = names("val");
    assert_eq!(first.len(), 3);
    assert_eq!(divide(r#"{"val":0.5}"#), 200);
    assert_eq!(names("val"), first);
}

#[test]
fn small_pictures_are_jpegs_and_an_upload_goes_on_where_it_broke_off() {
    let (studio, id) = start();
    let image = images(&studio, id, "")[0]["id"].clone();
    for _ in 0..2 {
        let small = studio.ask("GET", &format!("/api/images/{image}/small"), "");
        assert_eq!(small.status, 200);
        assert!(small.body.starts_with(b"\xff\xd8\xff") && small.head.contains("image/jpeg"));
    }
    let begun = studio.json("POST", "/api/uploads", r#"{"name":"a.zip","size":8}"#);
    let at = format!("/api/uploads/{}", begun["id"].as_str().unwrap());
    assert_eq!(studio.json("PATCH", &format!("{at}?offset=0"), "abcd")["received"], json!(4));
    assert_eq!(studio.ask("PATCH", &format!("{at}?offset=0"), "abcd").status, 409, "a piece that came twice");
    let early = json!({"name": "x", "from": {"upload": begun["id"]}}).to_string();
    assert_eq!(studio.ask("POST", "/api/datasets", &early).status, 409);
    assert_eq!(
        studio.ask("PATCH", &format!("{at}?offset=4"), "abcdefgh").status,
        400,
        "longer than was said"
    );
    assert_eq!(studio.json("GET", &at, "")["received"], json!(4));
    assert_eq!(studio.json("PATCH", &format!("{at}?offset=4"), "efgh")["received"], json!(8));
}

#[test]
fn what_is_no_data_set_is_said_with_a_remedy() {
    let studio = Running::start(|_, root| std::fs::create_dir(root.join("empty")).unwrap());
    let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
    let folder = studio.json("GET", &format!("/api/folders/{top}"), "")["folders"][0]["id"].as_i64().unwrap();
    let new = json!({"name": "x", "from": {"folder": folder}}).to_string();
    let id = studio.json("POST", "/api/datasets", &new)["id"].as_i64().unwrap();
    until(|| studio.json("GET", &format!("/api/datasets/{id}"), "")["state"] == "failed");
    let set = studio.json("GET", &format!("/api/datasets/{id}"), "");
    assert!(set["error"]["hint"].as_str().unwrap().contains("data.yaml"), "{set}");
}

#[test]
fn what_is_damaged_in_the_database_is_an_error_and_never_an_empty_picture() {
    let (studio, id) = start();
    let image = images(&studio, id, "split=train")[0]["id"].as_i64().unwrap();
    let database = rusqlite::Connection::open(studio.dir.path().join("studio.sqlite")).unwrap();
    let spoil = |sql: &str, id: i64| assert_eq!(database.execute(sql, [id]).unwrap(), 1);
    let fails = |method: &str, path: &str, words: &str| {
        let answer = studio.ask(method, path, r#"{"note":""}"#);
        assert_eq!(answer.status, 500, "{path}: {}", answer.text());
        let problem: Value = serde_json::from_slice(&answer.body).unwrap();
        let message = problem["message"].as_str().unwrap();
        assert!(message.contains("damaged") && message.contains(words), "{message}");
        assert!(problem["hint"].as_str().unwrap().contains("studio.sqlite"), "{problem}");
    };
    spoil("UPDATE images SET boxes = '[[0, 0.5, 0.5', revision = revision + 1 WHERE id = ?1", image);
    spoil("UPDATE datasets SET revision = revision + 1 WHERE id = ?1", id);
    let boxes = format!("the boxes of image {image}");
    fails("GET", &format!("/api/images/{image}"), &boxes);
    fails("GET", &format!("/api/datasets/{id}/images"), &boxes);
    fails("GET", &format!("/api/datasets/{id}/histograms"), &boxes);
    // Least of all may a version hold the picture as one without boxes.
    fails("POST", &format!("/api/datasets/{id}/versions"), &boxes);
    let versions = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1);
    database
        .execute(
            "INSERT INTO models (name, origin, path, bytes, sha256, about, created) VALUES ('m', 'found', 'p', 1, '', '{', 0)",
            [],
        )
        .unwrap();
    fails("GET", "/api/models", "the about of model 1");
    spoil("UPDATE datasets SET classes = 'x' WHERE id = ?1", id);
    fails("GET", &format!("/api/datasets/{id}"), &format!("the classes of data set {id}"));
    database
        .execute(
            "INSERT INTO jobs (name, state, model, model_name, strategy, arguments, epochs, created)
             VALUES ('r', 'failed', 'm', 'm', 'gentle', '[[', 1, 0)",
            [],
        )
        .unwrap();
    fails("GET", "/api/jobs", "the arguments of run 1");
}

#[test]
fn a_remedy_uses_the_sound_boxes_and_says_so() {
    let (studio, id) = start();
    let at = format!("/api/datasets/{id}/remedies");
    let audit = studio.json("GET", &format!("/api/datasets/{id}/audit"), "");
    let kind = audit["kinds"].as_array().unwrap().iter().find(|k| k["kind"] == "class_out_of_range").unwrap();
    assert_eq!(kind["remedy"], "keep_sound");
    assert_eq!(audit["mended"], json!([]));
    assert_eq!(studio.ask("POST", &at, r#"{"kind":"corrupt_image"}"#).status, 404, "no image has it");
    let mended = studio.json("POST", &at, r#"{"kind":"class_out_of_range"}"#);
    assert_eq!(mended, json!({"images": 1, "left": 0, "version": 2}));
    let versions = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
    let version = &versions["versions"][0];
    assert_eq!((&version["number"], &version["note"]), (&json!(2), &json!("faults mended")));
    assert_eq!((&version["images"], &version["boxes"]), (&json!(6), &json!(6)));
    let audit = studio.json("GET", &format!("/api/datasets/{id}/audit"), "");
    assert_eq!(audit["mended"], json!(["class_out_of_range"]));
}

#[test]
fn pictures_without_labels_wait_for_a_person_and_their_folder_stays_as_it_is() {
    let studio = Running::start(|_, root| {
        for i in 0..6_u8 {
            picture(&root.join(format!("photos/{i}.png")), i * 30);
        }
        std::fs::write(root.join("photos/notes.txt"), "no picture").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", root.join("photos/way-out.png")).unwrap();
    });
    let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
    let folder = studio.json("GET", &format!("/api/folders/{top}"), "")["folders"][0]["id"].as_i64().unwrap();
    let new = json!({"name": "Photos", "from": {"folder": folder}}).to_string();
    let id = studio.json("POST", "/api/datasets", &new)["id"].as_i64().unwrap();
    until(|| studio.json("GET", &format!("/api/datasets/{id}"), "")["checked"] == json!(true));
    let set = studio.json("GET", &format!("/api/datasets/{id}"), "");
    assert_eq!((&set["task"], &set["classes"]), (&json!("detect"), &json!([])));
    let audit = studio.json("GET", &format!("/api/datasets/{id}/audit"), "");
    assert_eq!((&audit["fault_count"], &audit["images"]), (&json!(0), &json!(6)), "{audit}");
    let refused = studio.ask("POST", &format!("/api/datasets/{id}/versions"), r#"{"note":""}"#);
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("add a class"), "{}", refused.text());
    studio.json("POST", &format!("/api/datasets/{id}/classes"), r#"{"name":"bird"}"#);
    // Two are looked at; of the rest nobody knows whether they show a bird.
    for image in &images(&studio, id, "split=train")[..2] {
        let boxes = json!({"revision": 0, "boxes": [[0, 0.5, 0.5, 0.25, 0.25]]}).to_string();
        studio.json("PUT", &format!("/api/images/{}/boxes", image["id"]), &boxes);
    }
    let version = studio.json("POST", &format!("/api/datasets/{id}/versions"), r#"{"note":"first"}"#);
    assert_eq!((&version["images"], &version["boxes"]), (&json!(2), &json!(2)));
    let left = std::fs::read_dir(studio.root.path().join("photos")).unwrap().count();
    assert_eq!(left, 8, "nothing was written there");
}

#[test]
fn folders_of_classes_are_browsed_relabelled_and_written_as_folders() {
    let studio = Running::start(|_, root| {
        for (class, shade) in [("ash", 20_u8), ("birch", 120)] {
            for i in 0..5_u8 {
                picture(&root.join(format!("leaves/{class}/{i}.png")), shade + i * 9);
            }
        }
        std::fs::write(root.join("leaves/ash/4.png"), b"no picture").unwrap();
    });
    let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
    let folder = studio.json("GET", &format!("/api/folders/{top}"), "")["folders"][0]["id"].as_i64().unwrap();
    let new = json!({"name": "Leaves", "from": {"folder": folder}}).to_string();
    let id = studio.json("POST", "/api/datasets", &new)["id"].as_i64().unwrap();
    let newest = || -> Value {
        let all = studio.json("GET", &format!("/api/datasets/{id}/versions"), "");
        all["versions"].as_array().unwrap().first().cloned().unwrap_or_default()
    };
    until(|| newest().is_object());
    let set = studio.json("GET", &format!("/api/datasets/{id}"), "");
    assert_eq!((&set["task"], &set["classes"]), (&json!("classify"), &json!(["ash", "birch"])));
    let audit = studio.json("GET", &format!("/api/datasets/{id}/audit"), "");
    let of_kind =
        |kind: &str| audit["faults"].as_array().unwrap().iter().find(|f| f["kind"] == kind).unwrap();
    assert_eq!(
        (&audit["ok"], &of_kind("corrupt_image")["path"]),
        (&json!(false), &json!("ash/4.png")),
        "{audit}"
    );
    assert_eq!(of_kind("split_made")["path"], "leaves", "no path of this machine is shown");
    assert_eq!(newest()["images"], json!(9), "what is no picture is left out");
    let birch = images(&studio, id, "class=1");
    assert_eq!(birch.len(), 5);
    let (image, revision) = (&birch[0]["id"], &birch[0]["revision"]);
    let save = |boxes: Value| {
        studio.ask(
            "PUT",
            &format!("/api/images/{image}/boxes"),
            &json!({"revision": revision, "boxes": boxes}).to_string(),
        )
    };
    assert_eq!(save(json!([[0, 0.5, 0.5, 0.5, 0.5]])).status, 400, "a box is no class of a whole picture");
    assert_eq!(save(json!([[0, 0.5, 0.5, 1.0, 1.0]])).status, 200);
    assert_eq!(images(&studio, id, "class=0").len(), 5);
    let wrong = studio.ask("POST", &format!("/api/datasets/{id}/classes"), r#"{"name":"../x"}"#);
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    let version = studio.json("POST", &format!("/api/datasets/{id}/versions"), r#"{"note":""}"#);
    assert_eq!((&version["images"], &version["number"]), (&json!(9), &json!(2)));
    let export =
        |form: &str| studio.ask("GET", &format!("/api/versions/{}/export?format={form}", version["id"]), "");
    assert_eq!(export("yolo").status, 400);
    let zip = zip::ZipArchive::new(std::io::Cursor::new(export("folders").body)).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let of = |class: &str| names.iter().filter(|name| name.contains(&format!("/{class}/"))).count();
    assert_eq!((of("ash"), of("birch")), (5, 4), "{names:?}");
    let detector =
        r#"{"name":"x","dataset":1,"model":{"scratch":"yolov8n"},"strategy":"gentle","arguments":[]}"#;
    let refused = studio.ask("POST", "/api/jobs", detector);
    assert!(refused.status == 400 && refused.text().contains("one class each"), "{}", refused.text());
}
