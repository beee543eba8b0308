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
