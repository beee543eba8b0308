use super::*;
use crate::train::fixture::{Tensors, json, number};

fn slot(offset: usize, len: usize, group: Group) -> ParamSlot {
    ParamSlot { offset, len, matrix: None, group, lr_scale: 1.0 }
}

fn near(got: f32, want: f64) {
    assert!((f64::from(got) - want).abs() <= 1e-6 * want.abs().max(1e-3), "{got} instead of {want}");
}

#[test]
fn sgd_by_hand() {
    let slots = [slot(0, 1, Group::Weight), slot(1, 1, Group::Bias)];
    let mut opt = Optimiser::new(Kind::Sgd, 0.9, 3, &slots).expect("slots");
    let mut p = [2.0, 2.0, 7.0];
    let rates = Rates::constant(0.1, 0.9, 0.5);
    opt.step(&mut p, &[1.0, 1.0, 1.0], &rates);
    // Weight: g = 1 + .5 * 2 = 2, b = 2, step .1 (2 + 1.8). Bias: no decay. The third value is frozen.
    near(p[0], 2.0 - 0.38);
    near(p[1], 2.0 - 0.19);
    assert_eq!(p[2], 7.0);
    opt.step(&mut p, &[1.0, -1.0, 1.0], &rates);
    // Weight: g = 1 + .81 = 1.81, b = 1.8 + 1.81 = 3.61, step .1 (1.81 + 3.249).
    near(p[0], 1.62 - 0.5059);
    // Bias: b = .9 - 1 = -.1, step .1 (-1 - .09).
    near(p[1], 1.81 + 0.109);
    assert_eq!((p[2], opt.steps()), (7.0, 2));
}

#[test]
fn adam_by_hand() {
    // The first step of Adam moves by lr whatever the gradient's size.
    for (kind, want) in [(Kind::AdamW, 2.0 * (1.0 - 0.1 * 0.5) - 0.1), (Kind::Adam, 1.9)] {
        let mut opt = Optimiser::new(kind, 0.9, 1, &[slot(0, 1, Group::Weight)]).expect("slots");
        let mut p = [2.0];
        let rates = Rates::constant(0.1, 0.0, 0.5);
        opt.step(&mut p, &[3.0], &rates);
        near(p[0], want);
        // Second step by the published formulas, in double precision.
        let (g1, g2) = if kind == Kind::Adam { (3.0 + 0.5 * 2.0, 1.0 + 0.5 * 1.9) } else { (3.0, 1.0) };
        let m = 0.9 * (0.1 * g1) + 0.1 * g2;
        let v = 0.999 * (0.001 * g1 * g1) + 0.001 * g2 * g2;
        let (m_hat, v_hat): (f64, f64) = (m / (1.0 - 0.81), v / (1.0 - 0.998001));
        let shrink = if kind == Kind::Adam { 1.0 } else { 0.95 };
        opt.step(&mut p, &[1.0], &rates);
        near(p[0], want * shrink - 0.1 * m_hat / (v_hat.sqrt() + 1e-8));
    }
}

#[test]
fn groups_and_scales_choose_the_rate() {
    let scaled = ParamSlot { lr_scale: 3.0, ..slot(1, 1, Group::Norm) };
    let mut opt = Optimiser::new(Kind::Sgd, 0.9, 2, &[slot(0, 1, Group::Norm), scaled]).expect("slots");
    let mut p = [0.0, 0.0];
    opt.step(&mut p, &[1.0, 1.0], &Rates::constant(0.1, 0.0, 0.5));
    near(p[0], -0.1);
    near(p[1], -0.3);
}

#[test]
fn musgd_without_matrices_is_sgd_and_a_rank_one_matrix_goes_to_its_unit() {
    let slots = [slot(0, 3, Group::Bias)];
    let mut mu = Optimiser::new(Kind::MuSgd, 0.9, 3, &slots).expect("slots");
    let mut sgd = Optimiser::new(Kind::Sgd, 0.9, 3, &slots).expect("slots");
    let (mut a, mut b) = ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]);
    for step in 0..3 {
        let grads = [0.5, -0.25 * step as f32, 1.0];
        mu.step(&mut a, &grads, &Rates::constant(0.1, 0.9, 0.5));
        sgd.step(&mut b, &grads, &Rates::constant(0.1, 0.9, 0.5));
    }
    assert_eq!(a, b);

    // One row: the orthogonal form is the unit vector times what five steps make of a singular value of 1:
    // s <- 3.4445 s - 4.775 s^3 + 2.0315 s^5.
    let mut s = 1.0f64;
    for _ in 0..5 {
        s = 3.4445 * s - 4.775 * s.powi(3) + 2.0315 * s.powi(5);
    }
    let matrix =
        ParamSlot { matrix: Some(Matrix { rows: 1, cols: 2, scale: 2.0 }), ..slot(0, 2, Group::Weight) };
    let mut mu = Optimiser::new(Kind::MuSgd, 0.9, 2, &[matrix]).expect("slots");
    let mut p = [0.0, 0.0];
    mu.step(&mut p, &[3.0, 4.0], &Rates::constant(0.1, 0.5, 0.0));
    // SGD part: .1 (g + .5 g).
    for (p, g) in p.iter().zip([3.0, 4.0]) {
        let want = -0.1 * 1.5 * g - 0.2 * 0.1 * 2.0 * s * g / 5.0;
        assert!((f64::from(*p) - want).abs() < 5e-4, "{p} {want}");
    }
}

fn noise(i: usize, salt: usize) -> f32 {
    let x = ((i * 31 + salt * 977) as u32).wrapping_mul(2_654_435_761);
    let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
    (x >> 8) as f32 / (1u32 << 23) as f32 - 1.0
}

/// An arena over several chunks: a matrix, a frozen gap, norms, biases, a larger matrix.
fn arena() -> (Vec<ParamSlot>, usize) {
    let matrix = |offset, rows, cols| ParamSlot {
        matrix: Some(Matrix { rows, cols, scale: 1.0 }),
        ..slot(offset, rows * cols, Group::Weight)
    };
    let slots = vec![
        matrix(0, 27, 16),
        slot(500, 40, Group::Norm),
        slot(540, 9, Group::Bias),
        ParamSlot { lr_scale: 3.0, ..matrix(600, 300, 72) },
    ];
    (slots, 600 + 300 * 72 + 5)
}

fn run(
    kind: Kind,
    threads: usize,
    steps: std::ops::Range<usize>,
    opt: Option<Optimiser>,
    p: &mut [f32],
) -> Optimiser {
    let (slots, len) = arena();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let mut opt = opt.unwrap_or_else(|| Optimiser::new(kind, 0.9, len, &slots).expect("slots"));
        for step in steps {
            let grads: Vec<f32> = (0..len).map(|i| noise(i, step)).collect();
            opt.step(p, &grads, &Rates::constant(0.01, 0.9, 0.1));
        }
        opt
    })
}

#[test]
fn bits_do_not_depend_on_threads_and_resume_is_exact() {
    let (slots, len) = arena();
    let start: Vec<f32> = (0..len).map(|i| noise(i, 99)).collect();
    for kind in Kind::ALL {
        let (mut one, mut three, mut resumed) = (start.clone(), start.clone(), start.clone());
        run(kind, 1, 0..4, None, &mut one);
        run(kind, 3, 0..4, None, &mut three);
        assert!(one.iter().zip(&three).all(|(a, b)| a.to_bits() == b.to_bits()), "{kind:?} with 3 threads");

        let half = run(kind, 2, 0..2, None, &mut resumed);
        let mut fresh = Optimiser::new(kind, 0.9, len, &slots).expect("slots");
        fresh.restore(half.steps(), &half.state()).expect("own state");
        run(kind, 2, 2..4, Some(fresh), &mut resumed);
        assert!(one.iter().zip(&resumed).all(|(a, b)| a.to_bits() == b.to_bits()), "{kind:?} resumed");
        // What no slot names stays.
        assert_eq!((one[450], one[len - 1]), (start[450], start[len - 1]));
        assert_ne!(one[0], start[0]);
    }
}

#[test]
fn a_foreign_state_is_refused_and_changes_nothing() {
    let mut opt = Optimiser::new(Kind::AdamW, 0.9, 2, &[slot(0, 2, Group::Weight)]).expect("slots");
    opt.step(&mut [1.0, 2.0], &[0.5, 0.5], &Rates::constant(0.1, 0.9, 0.0));
    let before = opt.state();
    let sgd = vec![("momentum".to_owned(), vec![0.0; 2])];
    assert_eq!(opt.restore(5, &sgd), Err(StateError::Missing { name: "exp_avg", kind: "AdamW" }));
    let short = vec![("exp_avg".to_owned(), vec![0.0; 2]), ("exp_avg_sq".to_owned(), vec![0.0; 1])];
    assert_eq!(opt.restore(5, &short), Err(StateError::Length { name: "exp_avg_sq", found: 1, expected: 2 }));
    assert_eq!((opt.state(), opt.steps()), (before, 1));
}

/// Torch's [out, in, kh, kw] (or [out, in]) to the arena's [kh, kw, in, out].
fn to_arena(v: &[f32], shape: &[usize]) -> Vec<f32> {
    let [out, inputs] = [shape[0], shape[1]];
    let kernel: usize = shape[2..].iter().product();
    let mut values = Vec::with_capacity(v.len());
    for k in 0..kernel {
        for i in 0..inputs {
            values.extend((0..out).map(|o| v[(o * inputs + i) * kernel + k]));
        }
    }
    values
}

const TOYS: [&str; 6] = ["conv.weight", "conv.bias", "tall.weight", "linear.weight", "bn.weight", "bn.bias"];

fn toy_slots(file: &Tensors) -> Vec<ParamSlot> {
    let mut offset = 0;
    let slots = TOYS.map(|name| {
        let shape = file.shape(&format!("start/{name}"));
        let matrix = match shape[..] {
            [o, i, h, w] => Some(Matrix::conv((h, w), i, o)),
            [o, i] => Some(Matrix::linear(i, o)),
            _ => None,
        };
        let group = match (name, &matrix) {
            (_, Some(_)) => Group::Weight,
            ("bn.weight", None) => Group::Norm,
            _ => Group::Bias,
        };
        let slot = ParamSlot { offset, len: shape.iter().product(), matrix, group, lr_scale: 1.0 };
        offset += slot.len;
        slot
    });
    slots.to_vec()
}

fn toy(file: &Tensors, at: &str, name: &str) -> Vec<f32> {
    let key = format!("{at}/{name}");
    let (values, shape) = (file.f32(&key), file.shape(&key));
    if shape.len() > 1 { to_arena(&values, &shape) } else { values }
}

fn toy_arena(file: &Tensors, at: &str) -> Vec<f32> {
    TOYS.iter().flat_map(|name| toy(file, at, name)).collect()
}

/// Euclidean distance over the norm of `want`.
fn distance(got: &[f32], want: &[f32]) -> f64 {
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 = got.iter().zip(want).map(|(g, w)| square(g - w)).sum();
    (difference / want.iter().map(|&w| square(w)).sum::<f64>().max(1e-30)).sqrt()
}

#[test]
fn five_steps_equal_the_reference() {
    let (facts, file) = (json("train/toys.json"), Tensors::open("train/toys.safetensors"));
    let slots = toy_slots(&file);
    for key in ["adamw", "sgd", "musgd"] {
        let run = &facts["runs"][key];
        let (lr, momentum) = (number(&run["lr"]), number(&run["momentum"]));
        let kind = Kind::from_name(run["name"].as_str().expect("a name")).expect("a known optimiser");
        let rates = Rates::constant(lr, momentum, number(&run["decay"]));
        let mut params = toy_arena(&file, "start");
        let mut opt = Optimiser::new(kind, momentum, params.len(), &slots).expect("slots");
        for step in 0..5 {
            let before = params.clone();
            opt.step(&mut params, &toy_arena(&file, &format!("grad/{step}")), &rates);
            for (name, slot) in TOYS.iter().zip(&slots) {
                let want = toy(&file, &format!("{key}/after/{step}"), name);
                let got = &params[slot.range()];
                let error = distance(got, &want);
                assert!(error < 1e-6, "{key} step {step} {name}: {error:e}");
                assert!(distance(&before[slot.range()], &want) > 1e-4, "{key} {step} {name} moved");
                let names: &[(&str, &str)] = match kind {
                    Kind::MuSgd if slot.matrix.is_some() => {
                        &[("momentum", "momentum_buffer_SGD"), ("muon_momentum", "momentum_buffer")]
                    }
                    Kind::AdamW => &[("exp_avg", "exp_avg"), ("exp_avg_sq", "exp_avg_sq")],
                    _ => &[("momentum", "momentum_buffer")],
                };
                for (ours, theirs) in names {
                    let state = opt.state();
                    let (_, values) = state.iter().find(|(n, _)| n == ours).expect("a state");
                    let error = distance(
                        &values[slot.range()],
                        &toy(&file, &format!("{key}/state/{step}/{theirs}"), name),
                    );
                    assert!(error < 1e-6, "{key} step {step} {name} {ours}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn newton_schulz_equals_the_reference() {
    let file = Tensors::open("train/toys.safetensors");
    for (name, slot) in TOYS.iter().zip(toy_slots(&file)).filter(|(_, s)| s.matrix.is_some()) {
        for step in 0..5 {
            // The iterates are torch matrices [out, in * kernel], some transposed; the last is [out, in * kernel].
            let mut update = toy(&file, &format!("musgd/update/{step}"), name);
            let matrix = slot.matrix.expect("filtered");
            newton_schulz::orthogonalise(&matrix, &mut update, &mut newton_schulz::Scratch::default());
            let shape = file.shape(&format!("musgd/update/{step}/{name}"));
            let want = to_arena(&file.f32(&format!("musgd/newton_schulz/{step}/{name}/5")), &shape);
            let error = distance(&update, &want);
            assert!(error < 1e-3, "{name} step {step}: {error:e}");
        }
    }
}
