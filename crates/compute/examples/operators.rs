//! Times single convolutions: `operators THREADS BATCH ROUNDS float32|bfloat16 in,out,width,kernel,stride,groups…`, one JSON line each.
//!
//! Medians of milliseconds: `forward` with the statistics of the norm behind it left out, `data` and `weight` the two
//! gradients (`data` is 0 where the input has three channels: an image needs none).

use std::sync::Arc;

use onsa_compute::{Conv, Executor, Graph, Mode, Params, Plan, Storage, Trainable};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [threads, batch, rounds, storage, shapes @ ..] = &arguments[..] else {
        eprintln!(
            "usage: operators THREADS BATCH ROUNDS float32|bfloat16 in,out,width,kernel,stride,groups…"
        );
        std::process::exit(2);
    };
    let number = |text: &str| text.parse::<usize>().unwrap_or_else(|e| panic!("{text}: {e}"));
    let (threads, batch, rounds) = (number(threads), number(batch), number(rounds));
    let storage = match storage.as_str() {
        "float32" => Storage::Float32,
        "bfloat16" => Storage::Bf16,
        other => panic!("{other}: float32 or bfloat16"),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
    let pool = Arc::new(pool);
    for shape in shapes {
        let parts: Vec<usize> = shape.split(',').map(number).collect();
        let [c, out, width, k, stride, groups] = parts[..] else { panic!("{shape}: six numbers") };
        let mut graph = Graph::new();
        let mut x = graph.input("x", [batch, width, width, c]);
        if c != 3 {
            // Something trained before it, so that the gradient with respect to its input is wanted.
            x = graph.scale_channels(x, "scale");
        }
        let (kernel, pad) = ((k, k), [k / 2; 4]);
        let conv =
            Conv { name: "conv".into(), out, kernel, stride: (stride, stride), pad, groups, bias: false };
        let y = graph.conv2d(x, conv);
        graph.output("y", y);
        let operations = 2.0 * graph.multiply_adds() as f64;
        let plan = Plan::new(&graph, Mode::Training, &Trainable::all(&graph));
        let mut run = Executor::with_storage(Arc::new(plan), Arc::clone(&pool), storage);
        let mut params = Params::new(&graph);
        noise(&mut params.values);
        noise(run.input_mut(0));
        let mut grads = vec![0.0; params.values.len()];
        run.prepare(&params);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..=rounds {
            run.start_profile();
            run.forward();
            run.outputs_and_grads().1.into_iter().for_each(noise);
            run.backward(&mut grads);
            let profile = run.profile().expect("started above");
            for (times, name) in times.iter_mut().zip(["conv", "conv_grad_data", "conv_grad_weight"]) {
                let ms: f64 = profile
                    .steps
                    .iter()
                    .filter(|step| step.name == name)
                    .map(|step| step.time.as_secs_f64() * 1e3)
                    .sum();
                if round > 0 {
                    times.push(ms);
                }
            }
        }
        let [forward, data, weight] = times.map(|mut t| {
            t.sort_by(f64::total_cmp);
            t[t.len() / 2]
        });
        let rate = |ms: f64, passes: f64| passes * operations / ms / 1e6;
        let passes = if c == 3 { 1.0 } else { 2.0 };
        println!(
            "{{\"shape\":\"{shape}\",\"forward_ms\":{forward:.3},\"data_ms\":{data:.3},\"weight_ms\":{weight:.3},\
             \"forward_gflops\":{:.1},\"backward_gflops\":{:.1}}}",
            rate(forward, 1.0),
            rate(data + weight, passes)
        );
    }
}

fn noise(values: &mut [f32]) {
    let mut state = 1u32;
    for x in values {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
}
