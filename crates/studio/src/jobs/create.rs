//! From what a person chose to a job in the queue.
use onsa_tune::models::{Task, registry};
use onsa_tune::train::recipe::TrainArgs;
use schemars::JsonSchema;
use serde::Deserialize;

use super::strategy::{self, Strategy};
use crate::http::OWN;
use crate::library::{datasets, models, versions};
use crate::protocol::Event;
use crate::store::{blocking, now};
use crate::{App, Problem};

/// A training to be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct NewJob {
    /// Its name.
    pub name: String,
    /// The data set; a version is made of it where it has changed since the last one.
    pub dataset: i64,
    /// A version of it, instead of its present state.
    pub version: Option<i64>,
    /// The model to start from.
    pub model: Start,
    /// `gentle`, `backbone`, `head`, `standard` or `expert`.
    pub strategy: String,
    /// Arguments as `onsa train` takes them: names and texts. They win over the strategy's.
    pub arguments: Vec<(String, String)>,
}

/// What a training starts from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// A model file, by its id.
    Model(i64),
    /// A known architecture, by name, from scratch.
    Scratch(String),
}

/// Checks everything and puts the job into the queue.
///
/// # Errors
/// An argument makes no sense, or data or model are not there.
pub async fn create(app: &App, new: NewJob) -> Result<i64, Problem> {
    let name = datasets::checked_name(&new.name)?.to_owned();
    let strategy = Strategy::named(&new.strategy)?;
    let dataset = new.dataset;
    let classifies = app.store.read(move |c| Ok(datasets::ready(c, dataset)?.classifies())).await?;
    let (model, model_name, family, pretrained, model_classifies) = match &new.model {
        Start::Model(id) => {
            let id = *id;
            let model = app.store.read(move |c| models::get(c, id)).await?;
            let family = model.about.family.as_deref().and_then(strategy::family);
            let model_classifies = model.about.task.as_deref() == Some("classify");
            (model.path.display().to_string(), model.name, family, true, model_classifies)
        }
        Start::Scratch(name) => {
            let spec = registry::find(name).map_err(|e| Problem::invalid(e.to_string()))?;
            (spec.name.clone(), spec.name, Some(spec.family), false, spec.task == Task::Classify)
        }
    };
    if classifies != model_classifies {
        let (data, found) =
            if classifies { ("one class each", "finds objects") } else { ("boxes", "classifies") };
        return Err(Problem::invalid(format!(
            "the pictures have {data}, and the model {model_name} {found}"
        ))
        .hint("choose a model that is made for such pictures"));
    }
    let mut arguments: Vec<(String, String)> = Vec::new();
    let own = if classifies { strategy.of_classifier() } else { strategy.arguments(family) };
    let own = own.into_iter().map(|(name, text)| (name.to_owned(), text));
    for (name, text) in own.chain(new.arguments) {
        if OWN.contains(&name.as_str()) {
            return Err(Problem::invalid(format!("`{name}` is set by the studio")));
        }
        arguments.retain(|(given, _)| *given != name);
        arguments.push((name, text));
    }
    if !pretrained {
        arguments.push(("pretrained".into(), "false".into()));
    }
    if classifies {
        arguments.push(("task".into(), "classify".into()));
    }
    let epochs = check(&model, &arguments)?;
    let version = blocking({
        let app = app.clone();
        move || match new.version {
            Some(id) => {
                let version = app.store.read_now(|c| versions::get(c, id))?;
                let same = version.dataset == new.dataset;
                same.then_some(version).ok_or_else(|| Problem::invalid("the version is of another data set"))
            }
            None => versions::snapshot(&app, new.dataset, "for training"),
        }
    })
    .await?;
    let arguments = serde_json::to_string(&arguments)?;
    let id = app.store.write(move |t| {
        let sql =
            "INSERT INTO jobs (name, state, version, model, model_name, strategy, arguments, epochs, created)
                   VALUES (?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let strategy = strategy.name();
        t.execute(
            sql,
            rusqlite::params![name, version.id, model, model_name, strategy, arguments, epochs, now()],
        )?;
        Ok(t.last_insert_rowid())
    });
    let id = id.await?;
    app.tell(Event::Job { job: id });
    app.wake.notify_one();
    Ok(id)
}

/// Checks the arguments as `onsa train` will, and gives the number of epochs.
fn check(model: &str, arguments: &[(String, String)]) -> Result<u32, Problem> {
    let mut args = TrainArgs::default();
    let wrong = |e: onsa_tune::train::recipe::table::ArgumentError| {
        let problem = Problem::invalid(e.to_string());
        match e.hint() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    };
    args.set_any("model", model).map_err(wrong)?;
    args.set_any("data", "data.yaml").map_err(wrong)?;
    for (name, text) in arguments {
        args.set_any(name, text).map_err(wrong)?;
    }
    Ok(args.resolve().map_err(wrong)?.epochs)
}
