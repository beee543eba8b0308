use super::*;
use crate::search::journal::{Figures, Run};
use crate::search::plan::{Cost, Rung};

/// A race of four candidates over one rung and a comparison of five folds.
pub(in crate::search) fn raced(differences: &[f64]) -> Raced {
    let record = |rung, candidate, pair, epochs, value: f64| Record {
        run: Run { rung, candidate, pair, epochs },
        figures: Some(Figures { value, loss: 1.0, metrics: vec![("mAP50".into(), value * 2.0)] }),
        failed: None,
        cost: Cost { epoch: 1.5, overhead: 3.0 },
    };
    let mut records: Vec<Record> =
        [0.25, 0.125, 0.375].iter().enumerate().map(|(c, &v)| record(0, c, 0, 10, v)).collect();
    records.push(Record {
        figures: None,
        failed: Some("its weights are no longer finite".into()),
        ..record(0, 3, 0, 10, 0.0)
    });
    for (pair, difference) in differences.iter().enumerate() {
        let fold = 0.2 + 0.05 * pair as f64;
        records.push(record(1, 0, pair, 30, fold));
        records.push(record(1, 2, pair, 30, fold + difference));
    }
    Raced {
        records,
        plan: Plan {
            rungs: vec![Rung { candidates: 5, epochs: 10, pairs: 1 }],
            last: Last { epochs: 30, pairs: 5 },
        },
        last: Some(Last { epochs: 30, pairs: differences.len() }),
        challenger: Some(2),
        cut: vec![0],
        spent: 480.0,
    }
}

pub(in crate::search) fn outcome(differences: &[f64], measure: Measure) -> Outcome {
    let names = ["default", "head", "full, lr x3", "gradual, 480 px", "freeze"].map(String::from);
    let typed = [("model", "yolo11n.pt"), ("data", "my crops/data.yaml"), ("epochs", "100")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let arguments = |candidate: usize, epochs: u32| {
        let mut arguments = vec![("epochs", epochs.to_string())];
        if candidate == 2 {
            arguments.extend([("strategy", "full".to_owned()), ("lr0", "0.0012".to_owned())]);
        }
        arguments
    };
    let facts = Facts {
        metric: "mAP50-95",
        measure,
        minutes: 10.0,
        names: &names,
        arguments: &arguments,
        typed: &typed,
    };
    Outcome::new(&raced(differences), &facts)
}

const CLEAR: [f64; 5] = [0.04, 0.05, 0.06, 0.05, 0.05];

#[test]
fn the_printed_table() {
    let found = outcome(&CLEAR, Measure::Folds(5));
    insta::assert_snapshot!(format!("{}\n{}\n\n{}\n", found.table(), found.sentence(), found.command));
}

#[test]
fn a_difference_is_judged_by_its_interval() {
    let clear = outcome(&CLEAR, Measure::Folds(5));
    // Mean .05, s .00707: the half width is 2.7764 * .00707 * sqrt(1/5 + 1/4) = .01317.
    let (low, high) = clear.comparison.as_ref().unwrap().difference.interval.unwrap();
    assert!((low - 0.036_83).abs() < 1e-4 && (high - 0.063_17).abs() < 1e-4, "{low} {high}");
    assert_eq!((clear.verdict, clear.best.as_str()), (Verdict::Better, "full, lr x3"));

    let unsure = outcome(&[0.04, -0.05, 0.06, 0.01, 0.05], Measure::Folds(5));
    assert_eq!((unsure.verdict, unsure.best.as_str()), (Verdict::NotCertain, "default"));
    assert_eq!(unsure.command, "onsa train model=yolo11n.pt data='my crops/data.yaml' epochs=30");
    assert!(unsure.sentence().contains("may still be chance, so the default is recommended"));

    let worse = outcome(&[-0.04, -0.05, 0.0], Measure::Seeds(3));
    assert_eq!((worse.verdict, worse.best.as_str()), (Verdict::Default, "default"));
    assert_eq!(worse.command, "onsa train model=yolo11n.pt data='my crops/data.yaml' epochs=30");
    assert!(worse.notes.iter().any(|n| n.contains("these validation images")));

    let one = outcome(&[0.04], Measure::Seeds(3));
    assert_eq!(
        (one.verdict, one.comparison.as_ref().unwrap().difference.interval),
        (Verdict::NotCertain, None)
    );
    assert!(one.sentence().contains("one pair of runs has no interval"));
    assert_eq!(outcome(&[], Measure::Seeds(3)).verdict, Verdict::NotCompared);
}

#[test]
fn the_document_has_what_a_program_needs() {
    let document = serde_json::to_value(outcome(&CLEAR, Measure::Folds(5))).unwrap();
    assert_eq!(document["verdict"], "better");
    assert_eq!(document["comparison"]["pairs"].as_array().unwrap().len(), 5);
    assert_eq!(document["candidates"][0]["name"], "full, lr x3");
    assert_eq!(document["candidates"][0]["arguments"][1], serde_json::json!(["strategy", "full"]));
    assert_eq!(document["untried"], 1);
    assert!(document["candidates"][3]["failed"].is_string());
}
