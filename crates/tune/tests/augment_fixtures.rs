//! Letterbox, loading, affine, HSV, flips, mosaic and mix-up against the pinned reference at given random numbers:
//! pixels within one grey level, boxes within a hundredth of a pixel. fixtures/export_augment.py makes the files.
#![allow(clippy::unwrap_used)]

use onsa_tune::boxes::Label;
use onsa_tune::data::augment::affine::{AffineParams, Homography, move_truths};
use onsa_tune::data::augment::flip::{flip_left_right, flip_up_down};
use onsa_tune::data::augment::hsv::HsvGains;
use onsa_tune::data::augment::mix::MixUpParams;
use onsa_tune::data::augment::mosaic::MosaicLayout;
use onsa_tune::data::augment::truth::{Truth, clip_all};
use onsa_tune::data::augment::warp::{Scene, Tile};
use onsa_tune::data::letterbox::Letterbox;
use onsa_tune::data::raster::Rgb8;
use onsa_tune::data::resize::{load_size, resize_bilinear};
use safetensors::SafeTensors;
use serde_json::Value;

struct Fixture {
    bytes: Vec<u8>,
    json: Value,
}

impl Fixture {
    fn open() -> Fixture {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/augment");
        let bytes = std::fs::read(format!("{folder}/augment.safetensors")).unwrap();
        let text = std::fs::read_to_string(format!("{folder}/augment.json")).unwrap();
        Fixture { bytes, json: serde_json::from_str(&text).unwrap() }
    }

    fn cases(&self, name: &str) -> Vec<Value> {
        let cases = self.json[name].as_array().unwrap().clone();
        assert!(!cases.is_empty());
        cases
    }

    fn image(&self, name: &str) -> Rgb8 {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        let shape = tensor.shape();
        Rgb8::new(shape[1], shape[0], tensor.data().to_vec()).unwrap()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// The labels that every case starts from.
    fn labels(&self) -> Vec<Label> {
        let classes = self.floats("classes");
        let boxes = self.floats("boxes");
        let label =
            |(b, &class): (&[f32], &f32)| Label { class: class as u32, cx: b[0], cy: b[1], w: b[2], h: b[3] };
        boxes.chunks_exact(4).zip(&classes).map(label).collect()
    }

    fn truths(&self, width: usize, height: usize) -> Vec<Truth> {
        Truth::place(&self.labels(), width as f32, height as f32, 0.0, 0.0)
    }

    fn expect_boxes(&self, name: &str, found: &[Truth]) {
        let expected = self.floats(name);
        assert_eq!(expected.len(), found.len() * 5, "{name}: number of boxes");
        for (e, f) in expected.chunks_exact(5).zip(found) {
            let b = f.bbox;
            assert_eq!(e[0] as u32, f.class, "{name}");
            for (e, f) in e[1..].iter().zip([b.x1, b.y1, b.x2, b.y2]) {
                assert!((e - f).abs() < 0.01, "{name}: expected {e}, got {f}");
            }
        }
    }

    fn expect_image(&self, name: &str, width: usize, found: &[u8]) {
        let expected = self.image(name);
        assert_eq!((expected.width, expected.data.len()), (width, found.len()), "{name}: size");
        let worst = expected.data.iter().zip(found).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(worst <= 1, "{name}: differs by up to {worst} grey levels");
    }
}

fn pair(value: &Value) -> (f64, f64) {
    (value[0].as_f64().unwrap(), value[1].as_f64().unwrap())
}

fn sizes(value: &Value) -> (usize, usize) {
    let (a, b) = pair(value);
    (a as usize, b as usize)
}

#[test]
fn letterbox() {
    let fixture = Fixture::open();
    for (k, case) in fixture.cases("letterbox").iter().enumerate() {
        let image = fixture.image(&format!("letterbox/{k}/in"));
        let (height, width) = sizes(&case["target_hw"]);
        let scale_up = case["scaleup"].as_bool().unwrap();
        let source = (image.width, image.height);
        let fit = if case["auto_stride32"].as_bool().unwrap() {
            assert_eq!(width, height);
            if scale_up {
                Letterbox::tight(source, width, 32)
            } else {
                // Prediction enlarges; this case's image is larger than the target, so it makes no difference.
                assert!(image.height > height);
                Letterbox::tight(source, width, 32)
            }
        } else {
            Letterbox::fit(source, (width, height), scale_up)
        };
        assert_eq!((fit.inner_width, fit.inner_height), sizes(&case["new_unpad"]), "{k}");
        let edges = [
            fit.top,
            fit.left,
            fit.height - fit.inner_height - fit.top,
            fit.width - fit.inner_width - fit.left,
        ];
        let expected = ["top", "left", "bottom", "right"].map(|side| case[side].as_u64().unwrap() as usize);
        assert_eq!(edges, expected, "{k}");
        fixture.expect_image(&format!("letterbox/{k}/out"), fit.width, &fit.apply(&image).data);
        let place = |label: &Label| Truth {
            class: label.class,
            bbox: fit.label_to_canvas(label).to_xyxy(fit.width as f32, fit.height as f32),
        };
        let boxes: Vec<Truth> = fixture.labels().iter().map(place).collect();
        fixture.expect_boxes(&format!("letterbox/{k}/boxes"), &boxes);
    }
}

#[test]
fn loading() {
    let fixture = Fixture::open();
    for (k, case) in fixture.cases("load").iter().enumerate() {
        let image = fixture.image(&format!("load/{k}/in"));
        let imgsz = case["imgsz"].as_u64().unwrap() as u32;
        let (width, height) = load_size(image.width as u32, image.height as u32, imgsz);
        let out = resize_bilinear(&image, width as usize, height as usize);
        fixture.expect_image(&format!("load/{k}/out"), out.width, &out.data);
    }
}

#[test]
fn affine() {
    let fixture = Fixture::open();
    for (k, case) in fixture.cases("affine").iter().enumerate() {
        let image = fixture.image(&format!("affine/{k}/in"));
        let (width, height) = sizes(&case["out_wh"]);
        let (shear_x, shear_y) = pair(&case["shear"]);
        let (translate_x, translate_y) = pair(&case["translate"]);
        let params = AffineParams {
            angle: case["degrees"].as_f64().unwrap(),
            scale: case["scale"].as_f64().unwrap(),
            shear_x,
            shear_y,
            translate_x,
            translate_y,
            ..AffineParams::CENTRED
        };
        let map = params.matrix((image.width, image.height), (width, height));
        for (e, f) in fixture.floats(&format!("affine/{k}/matrix")).iter().zip(map.0) {
            assert!((f64::from(*e) - f).abs() < 1e-4, "{k}: expected {e}, got {f}");
        }
        let mut out = vec![0; width * height * 3];
        Scene { tiles: vec![Tile::at(&image, 0, 0)] }.warp(&map, width, &mut out);
        fixture.expect_image(&format!("affine/{k}/out"), width, &out);
        let truths = fixture.truths(image.width, image.height);
        let moved = move_truths(&truths, &map, params.scale, (width, height));
        assert_eq!(moved.len() as u64, case["kept"].as_u64().unwrap());
        fixture.expect_boxes(&format!("affine/{k}/boxes"), &moved);
    }
}

#[test]
fn hsv() {
    let fixture = Fixture::open();
    for (k, case) in fixture.cases("hsv").iter().enumerate() {
        let gain = |i: usize| case["gains"][i].as_f64().unwrap();
        let mut image = fixture.image("hsv/in");
        HsvGains { hue: gain(0), saturation: gain(1), value: gain(2) }.apply(&mut image.data);
        fixture.expect_image(&format!("hsv/{k}/out"), image.width, &image.data);
    }
}

#[test]
fn flips() {
    let fixture = Fixture::open();
    for (k, case) in fixture.cases("flip").iter().enumerate() {
        let mut image = fixture.image(&format!("flip/{k}/in"));
        let mut truths = fixture.truths(image.width, image.height);
        match case["direction"].as_str().unwrap() {
            "horizontal" => flip_left_right(&mut image.data, image.width, &mut truths),
            "vertical" => flip_up_down(&mut image.data, image.width, &mut truths),
            other => panic!("{other}"),
        }
        assert_eq!(fixture.image(&format!("flip/{k}/out")), image);
        fixture.expect_boxes(&format!("flip/{k}/boxes"), &truths);
    }
}

#[test]
fn mosaic() {
    let fixture = Fixture::open();
    let images: Vec<Rgb8> = (0..4).map(|i| fixture.image(&format!("mosaic/in/{i}"))).collect();
    for (k, case) in fixture.cases("mosaic").iter().enumerate() {
        let size = case["imgsz"].as_u64().unwrap() as usize;
        let (centre_y, centre_x) = sizes(&case["centre_yx"]);
        let layout = MosaicLayout { centre_x, centre_y, partners: [1, 2, 3] };
        let mut truths = Vec::new();
        let mut tiles = Vec::new();
        for (i, image) in images.iter().enumerate() {
            let place = layout.place(i, size, image.width, image.height);
            let mut labels = fixture.labels();
            labels.iter_mut().for_each(|label| label.class += 10 * i as u32);
            let (left, top) = (place.left as f32, place.top as f32);
            truths.extend(Truth::place(&labels, image.width as f32, image.height as f32, left, top));
            tiles.push(Tile { image, place });
        }
        clip_all(&mut truths, 2.0 * size as f32, 2.0 * size as f32);
        let mut out = vec![0; 2 * size * 2 * size * 3];
        Scene { tiles }.warp(&Homography::IDENTITY, 2 * size, &mut out);
        assert_eq!(fixture.image(&format!("mosaic/{k}/out")).data, out, "{k}");
        fixture.expect_boxes(&format!("mosaic/{k}/boxes"), &truths);
    }
}

#[test]
fn mixup() {
    let fixture = Fixture::open();
    let (a, b) = (fixture.image("mixup/a"), fixture.image("mixup/b"));
    for (k, case) in fixture.cases("mixup").iter().enumerate() {
        let mut out = a.clone();
        let ratio = case["ratio"].as_f64().unwrap();
        // The first picture has labels 0 and 1, the second 2 and 3.
        let boxes = fixture.truths(a.width, a.height);
        let mut truths = boxes[..2].to_vec();
        MixUpParams { ratio }.apply(&mut out.data, &mut truths, &b.data, &boxes[2..4]);
        fixture.expect_image(&format!("mixup/{k}/out"), out.width, &out.data);
        fixture.expect_boxes(&format!("mixup/{k}/boxes"), &truths);
    }
}
