//! Who may ask: every route, every way in. And what ids cannot be made to say.
#![allow(clippy::unwrap_used, reason = "helpers outside of test functions may fail the test, too")]
mod common;

use common::Running;
use onsa_studio::http::{Access, routes};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A path that the route matches.
fn sample(path: &str) -> String {
    path.replace("{id}", "1")
        .replace("{class}", "0")
        .replace("{name}", "x.js")
        .replace("{*page}", "data/1")
        .replace("{format}", "onnx")
}

#[test]
fn the_table_of_routes_is_the_one_that_was_reviewed() {
    let table: String = routes()
        .iter()
        .map(|route| {
            let access = match route.access {
                Access::Token => "token",
                Access::TokenInAddress => "token-in-address",
            };
            format!("{:<7}{:<42}{access}\n", route.method.as_str(), route.path)
        })
        .collect();
    let reviewed = include_str!("routes.txt");
    assert_eq!(
        table, reviewed,
        "a route was added, changed or removed: review who may use it, then change tests/routes.txt"
    );
}

#[test]
fn the_documentation_is_what_the_server_says() {
    let now = format!("{:#}\n", onsa_studio::http::openapi::document());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::env::var_os("ONSA_WRITE_DOCS").is_some() {
        std::fs::write(path, &now).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(written == now, "docs/openapi.json is out of date: run this test with ONSA_WRITE_DOCS=1");
}

#[test]
fn no_route_answers_a_stranger_whatever_the_method() {
    let studio = Running::start(|_, _| {});
    let (host, cookie) = (studio.host(), studio.cookie());
    let origin = format!("Origin: http://{}", studio.address);
    let strangers: [(&str, Vec<&str>); 8] = [
        ("no token", vec![&host]),
        ("no token, own origin", vec![&host, &origin]),
        ("a wrong token", vec![&host, "Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]),
        ("a foreign host", vec!["Host: evil.example", &cookie]),
        ("a foreign origin", vec![&host, &cookie, "Origin: http://evil.example"]),
        ("an origin of null", vec![&host, &cookie, "Origin: null"]),
        ("another site", vec![&host, &cookie, "Sec-Fetch-Site: cross-site"]),
        ("another port of this machine", vec![&host, &cookie, "Sec-Fetch-Site: same-site"]),
    ];
    let paths: Vec<String> = routes()
        .iter()
        .map(|route| sample(route.path))
        .chain(["/api/unknown".into(), "/api/jobs/1/x".into()])
        .collect();
    for path in &paths {
        for (who, headers) in &strangers {
            for method in METHODS {
                let answer = studio.raw(method, path, headers, "");
                assert!(matches!(answer.status, 401 | 403), "{method} {path} with {who}: {}", answer.status);
                assert!(!answer.head.contains("set-cookie"), "{method} {path} with {who}");
            }
            let mut upgrade = headers.clone();
            upgrade.extend([
                "Connection: Upgrade",
                "Upgrade: websocket",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            ]);
            let answer = studio.raw("GET", path, &upgrade, "");
            assert!(matches!(answer.status, 401 | 403), "WebSocket {path} with {who}: {}", answer.status);
        }
    }
}

#[test]
fn who_holds_the_token_passes_everywhere() {
    let studio = Running::start(|_, _| {});
    for route in routes() {
        let answer = studio.ask(route.method.as_str(), &sample(route.path), "");
        assert!(
            !matches!(answer.status, 401 | 403 | 405),
            "{} {}: {}",
            route.method,
            route.path,
            answer.status
        );
        let policy = answer.head.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("data:") && !policy.contains('*'), "{policy}");
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", route.path);
    }
}

#[test]
fn the_printed_address_becomes_a_strict_cookie_and_leaves_the_address() {
    let studio = Running::start(|_, _| {});
    let answer = studio.raw(
        "GET",
        &format!("/?token={}", studio.token),
        &[&studio.host(), "Sec-Fetch-Site: none"],
        "",
    );
    assert_eq!(answer.status, 303);
    assert!(
        answer.head.contains("location: /\r\n") || answer.head.ends_with("location: /"),
        "{}",
        answer.head
    );
    let cookie = answer.head.lines().find(|line| line.starts_with("set-cookie:")).unwrap();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    let elsewhere = studio.raw("GET", &format!("/?token={}", studio.token), &["Host: evil.example"], "");
    assert_eq!(elsewhere.status, 403);
}

#[test]
fn no_name_or_id_reads_outside_the_allowed_folders() {
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("secret.txt"), "MARKER-OF-THE-SECRET").unwrap();
    std::fs::create_dir(secret.path().join("inner")).unwrap();
    let outside = secret.path().to_owned();
    let studio = Running::start(|dir, root| {
        std::fs::create_dir(root.join("data")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::fs::write(dir.join("studio-secret.txt"), "MARKER-OF-THE-SECRET").unwrap();
    });
    let up = "../".repeat(12);
    let absolute = secret.path().join("secret.txt").display().to_string();
    let corpus = [
        format!("{up}{}", absolute.trim_start_matches('/')),
        absolute.clone(),
        "../token".into(),
        "../../studio-secret.txt".into(),
        "..\\..\\studio-secret.txt".into(),
        "....//....//studio-secret.txt".into(),
        "token\0.js".into(),
        "file:///etc/passwd".into(),
        "http://127.0.0.1/".into(),
        "-1".into(),
        "9223372036854775808".into(),
    ];
    let all = |text: &str| text.bytes().map(|b| format!("%{b:02x}")).collect::<String>();
    let some = |text: &str| text.replace('/', "%2f").replace('\\', "%5c").replace('\0', "%00");
    let twice = |text: &str| all(text).replace('%', "%25");
    let doors = [
        "/assets/X",
        "/X",
        "/api/uploads/X",
        "/api/images/X",
        "/api/images/X/picture",
        "/api/folders/X",
        "/api/models/X/file",
        "/api/versions/X/export?format=yolo",
        "/api/jobs/1/drawings/X",
        "/api/versions/1/pictures/X",
        "/api/jobs/X/log",
    ];
    for door in doors {
        for name in &corpus {
            for shape in [all(name), some(name), twice(name), name.replace(['\0', ' '], "")] {
                let answer = studio.ask("GET", &door.replace('X', &shape), "");
                let text = answer.text();
                assert!(
                    !text.contains("MARKER") && !text.contains("root:") && !text.contains(&studio.token),
                    "{door} {shape}"
                );
                // A path of no route leads to the application's own page, whatever it says.
                let page = text.starts_with("<!doctype html");
                assert!(answer.status >= 300 || page, "{door} {shape}: {}", answer.status);
            }
        }
    }
    let piece = studio.ask("PATCH", "/api/uploads/..%2ftoken?offset=0", "x");
    assert_eq!(piece.status, 404);
    // A link that leads outside is not shown, and its folder cannot be named.
    let top = studio.json("GET", "/api/folders", "");
    let id = top["folders"][0]["id"].as_i64().unwrap();
    let listing = studio.json("GET", &format!("/api/folders/{id}"), "");
    let names: Vec<&str> =
        listing["folders"].as_array().unwrap().iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names, ["data"]);
    assert_eq!(listing["above"], serde_json::Value::Null);
    for from in [
        r#"{"name":"x","from":{"folder":"/etc"}}"#,
        r#"{"name":"x","from":{"path":"/etc"}}"#,
        r#"{"name":"x","from":{"folder":99}}"#,
    ] {
        let answer = studio.ask("POST", "/api/datasets", from);
        assert!(matches!(answer.status, 400 | 404 | 422), "{from}: {}", answer.status);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_becomes_a_way_out_after_it_was_shown_is_refused() {
    let secret = tempfile::tempdir().unwrap();
    let studio = Running::start(|_, root| std::fs::create_dir(root.join("data")).unwrap());
    let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
    let inner = studio.json("GET", &format!("/api/folders/{top}"), "")["folders"][0]["id"].as_i64().unwrap();
    std::fs::remove_dir(studio.root.path().join("data")).unwrap();
    std::os::unix::fs::symlink(secret.path(), studio.root.path().join("data")).unwrap();
    assert_eq!(studio.ask("GET", &format!("/api/folders/{inner}"), "").status, 404);
    let import = format!(r#"{{"name":"x","from":{{"folder":{inner}}}}}"#);
    assert_eq!(studio.ask("POST", "/api/datasets", &import).status, 404);
}

/// A data set in `folder` that names the picture and label of `secret` in every way that its form has.
fn reaching(folder: &std::path::Path, secret: &std::path::Path, form: &str) {
    let make = |name: &str| std::fs::create_dir_all(folder.join(name)).unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.join(name), text).unwrap();
    let own = |name: &str| {
        let shade = if name.contains("val") { 90 } else { 10 };
        image::RgbImage::from_pixel(32, 32, image::Rgb([shade, 2, 3])).save(folder.join(name)).unwrap();
    };
    let far = secret.display();
    for split in ["train", "val"] {
        make(&format!("images/{split}"));
        make(&format!("labels/{split}"));
    }
    let up = format!("{}{}", "../".repeat(20), far.to_string().trim_start_matches('/'));
    match form {
        "path" => {
            write("data.yaml", format!("path: {far}\ntrain: images/train\nval: images/train\nnames: [a]\n"))
        }
        "absolute" => write("data.yaml", format!("train: {far}/images/train\nval: images/val\nnames: [a]\n")),
        "up" => write("data.yaml", format!("train: {up}/images/train\nval: images/val\nnames: [a]\n")),
        "list" => {
            write("list.txt", format!("{far}/images/train/secret.png\nimages/train/p.png\n"));
            write("data.yaml", "train: list.txt\nval: images/val\nnames: [a]\n".into());
        }
        "secret list" => write("data.yaml", format!("train: {far}/list.txt\nval: images/val\nnames: [a]\n")),
        "links" => {
            #[cfg(unix)]
            for (from, to) in [("images", "png"), ("labels", "txt")] {
                let name = format!("{from}/train/secret.{to}");
                std::os::unix::fs::symlink(secret.join(&name), folder.join(&name)).unwrap();
            }
            #[cfg(unix)]
            std::os::unix::fs::symlink(
                secret.join("labels/train/secret.txt"),
                folder.join("labels/train/p.txt"),
            )
            .unwrap();
            write("data.yaml", "train: images/train\nval: images/val\nnames: [a]\n".into());
        }
        "coco" => {
            make("annotations");
            let document = |image: &str| {
                format!(
                    r#"{{"images": [{{"id": 1, "file_name": "{image}", "width": 32, "height": 32}},
                        {{"id": 2, "file_name": "p.png", "width": 32, "height": 32}}],
                        "annotations": [], "categories": [{{"id": 1, "name": "a"}}]}}"#
                )
            };
            write("annotations/instances_train.json", document(&format!("{far}/images/train/secret.png")));
            write("annotations/instances_val.json", document(&format!("{up}/images/train/secret.png")));
        }
        "classes" => {
            make("train/a");
            make("val/a");
            #[cfg(unix)]
            std::os::unix::fs::symlink(
                secret.join("images/train/secret.png"),
                folder.join("train/a/secret.png"),
            )
            .unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(secret.join("images/train"), folder.join("train/b")).unwrap();
            own("train/a/p.png");
            own("val/a/p.png");
            std::fs::remove_dir_all(folder.join("images")).unwrap();
            std::fs::remove_dir_all(folder.join("labels")).unwrap();
            return;
        }
        other => panic!("{other}"),
    }
    own("images/train/p.png");
    own("images/val/p.png");
}

#[test]
fn a_data_set_that_names_files_outside_its_folder_reads_nothing_of_them() {
    let secret = tempfile::tempdir().unwrap();
    let at = secret.path().canonicalize().unwrap();
    for folder in ["images/train", "labels/train"] {
        std::fs::create_dir_all(at.join(folder)).unwrap();
    }
    image::RgbImage::from_pixel(77, 55, image::Rgb([200, 1, 1]))
        .save(at.join("images/train/secret.png"))
        .unwrap();
    std::fs::write(at.join("labels/train/secret.txt"), "0 0.123 0.321 0.1 0.1\n").unwrap();
    std::fs::write(at.join("list.txt"), "MARKER-OF-THE-SECRET.png\n").unwrap();
    for form in ["path", "absolute", "up", "list", "secret list", "links", "coco", "classes"] {
        let studio = Running::start(|_, root| reaching(&root.join("set"), &at, form));
        let top = studio.json("GET", "/api/folders", "")["folders"][0]["id"].as_i64().unwrap();
        let folder =
            studio.json("GET", &format!("/api/folders/{top}"), "")["folders"][0]["id"].as_i64().unwrap();
        let new = format!(r#"{{"name":"x","from":{{"folder":{folder}}}}}"#);
        let id = studio.json("POST", "/api/datasets", &new)["id"].as_i64().unwrap();
        let began = std::time::Instant::now();
        let set = loop {
            let set = studio.json("GET", &format!("/api/datasets/{id}"), "");
            if set["state"] == "failed" || (set["state"] == "ready" && set["checked"] == true) {
                break set;
            }
            assert!(began.elapsed().as_secs() < 60, "{form}: {set}");
            std::thread::sleep(std::time::Duration::from_millis(30));
        };
        let images = studio.json("GET", &format!("/api/datasets/{id}/images"), "");
        for image in images["images"].as_array().unwrap() {
            assert_eq!((&image["width"], &image["name"]), (&32.into(), &"p.png".into()), "{form}: {image}");
            assert_eq!(image["boxes"].to_string().find("0.123"), None, "{form}: {image}");
        }
        let said = if set["state"] == "failed" {
            set["error"]["message"].to_string()
        } else {
            studio.json("GET", &format!("/api/datasets/{id}/audit"), "")["faults"].to_string()
        };
        assert!(said.contains("outside") || (form == "classes" && said == "[]"), "{form}: {said}");
        assert!(
            !said.contains("MARKER") && !said.contains("0.123") && !said.contains("77 x 55"),
            "{form}: {said}"
        );
    }
}
