//! The table of routes. The test beside it holds it against `tests/routes.txt`: a route that is missing there fails.
use axum::http::Method;
use axum::routing::{delete, get, patch, post, put};
use schemars::JsonSchema;

use super::answer::{Done, Made};
use super::{Access, Route, assets, comparison, data, endpoints, events, home, models, runs, uploads};
use crate::App;
use crate::library::uploads::PIECE_BYTES;

/// A JSON request.
const JSON: usize = 4 << 20;
/// A picture to try.
const PICTURE: usize = 64 << 20;

type Handler = fn() -> axum::routing::MethodRouter<App>;

fn route(method: Method, path: &'static str, summary: &'static str, handler: Handler) -> Route {
    let access = Access::Token;
    let (request, query, response) = (None, None, None);
    Route { method, path, access, summary, request, query, response, most_bytes: JSON, handler }
}

impl Route {
    fn takes<T: JsonSchema>(self) -> Route {
        Route { request: Some(|g| g.subschema_for::<T>()), ..self }
    }

    fn asks<T: JsonSchema>(self) -> Route {
        Route { query: Some(|g| g.root_schema_for::<T>()), ..self }
    }

    fn gives<T: JsonSchema>(self) -> Route {
        Route { response: Some(|g| g.subschema_for::<T>()), ..self }
    }

    fn at_most(self, most_bytes: usize) -> Route {
        Route { most_bytes, ..self }
    }
}

/// Every route of the studio.
pub fn routes() -> Vec<Route> {
    use crate::endpoints::Endpoint;
    use crate::jobs::{create::NewJob, record::Job};
    use crate::library::{
        annotations as a, datasets::Dataset, folders::Listing, images as i, import::NewDataset,
    };
    use crate::library::{models as m, uploads as u, versions::Version};
    let front = route(Method::GET, "/", "The application; with the token in the address, signs in", || {
        get(assets::index)
    });
    vec![
        Route { access: Access::TokenInAddress, ..front },
        route(Method::GET, "/assets/{name}", "Scripts and styles of the application", || get(assets::file)),
        route(Method::GET, "/{*page}", "A page of the application", || get(assets::page)),
        route(Method::GET, "/api", "This documentation (OpenAPI)", || get(home::documentation)),
        route(Method::GET, "/api/about", "Version and counts", || get(home::about)).gives::<home::Overview>(),
        route(Method::GET, "/api/recipe", "Arguments and strategies of training", || get(home::recipe))
            .gives::<home::Recipe>(),
        route(Method::GET, "/api/events", "What happens, as server-sent events", || get(events::stream))
            .gives::<crate::protocol::Event>(),
        route(Method::GET, "/api/folders", "Folders that data sets may be taken from", || {
            get(uploads::folders)
        })
        .gives::<Listing>(),
        route(Method::GET, "/api/folders/{id}", "What is in a folder", || get(uploads::folder))
            .gives::<Listing>(),
        route(Method::POST, "/api/uploads", "Begin an upload", || post(uploads::begin))
            .takes::<u::NewUpload>()
            .gives::<u::Upload>(),
        route(Method::GET, "/api/uploads/{id}", "How far an upload is", || get(uploads::get))
            .gives::<u::Upload>(),
        route(Method::PATCH, "/api/uploads/{id}", "The next piece of an upload: its bytes", || {
            patch(uploads::add)
        })
        .asks::<uploads::Place>()
        .gives::<u::Upload>()
        .at_most(PIECE_BYTES),
        route(Method::DELETE, "/api/uploads/{id}", "Forget an upload", || delete(uploads::forget))
            .gives::<Done>(),
        route(Method::GET, "/api/datasets", "Every data set", || get(data::list)).gives::<data::Datasets>(),
        route(Method::POST, "/api/datasets", "Import a data set", || post(data::begin))
            .takes::<NewDataset>()
            .gives::<Made>(),
        route(Method::GET, "/api/datasets/{id}", "A data set", || get(data::get)).gives::<Dataset>(),
        route(Method::PATCH, "/api/datasets/{id}", "Rename a data set", || patch(data::rename))
            .takes::<data::Named>()
            .gives::<Done>(),
        route(Method::DELETE, "/api/datasets/{id}", "Forget a data set", || delete(data::delete))
            .gives::<Done>(),
        route(Method::GET, "/api/datasets/{id}/audit", "The check's report", || get(data::audit))
            .gives::<serde_json::Value>(),
        route(Method::POST, "/api/datasets/{id}/remedies", "Apply the remedy of a kind of fault", || {
            post(data::mend)
        })
        .takes::<data::OfKind>()
        .gives::<crate::library::remedies::Mended>(),
        route(
            Method::POST,
            "/api/datasets/{id}/prelabel",
            "Let a model label the images without labels",
            || post(data::prelabel),
        )
        .takes::<crate::library::prelabel::Wish>()
        .gives::<crate::library::prelabel::Begun>(),
        route(Method::DELETE, "/api/datasets/{id}/prelabel", "Stop that", || delete(data::stop_prelabel))
            .gives::<Done>(),
        route(Method::GET, "/api/datasets/{id}/histograms", "Classes and sizes in figures", || {
            get(data::histograms)
        })
        .gives::<i::Histograms>(),
        route(Method::GET, "/api/datasets/{id}/images", "A page of images", || get(data::page))
            .asks::<i::Filter>()
            .gives::<i::Page>(),
        route(Method::POST, "/api/datasets/{id}/classes", "Add a class", || post(data::add_class))
            .takes::<data::Named>()
            .gives::<Done>(),
        route(Method::PATCH, "/api/datasets/{id}/classes/{class}", "Rename a class", || {
            patch(data::rename_class)
        })
        .takes::<data::Named>()
        .gives::<Done>(),
        route(Method::POST, "/api/datasets/{id}/split", "Divide the images anew", || post(data::divide))
            .takes::<a::NewSplit>()
            .gives::<Done>(),
        route(Method::GET, "/api/datasets/{id}/versions", "A data set's versions", || get(data::versions))
            .gives::<data::Versions>(),
        route(Method::POST, "/api/datasets/{id}/versions", "Make a version", || post(data::snapshot))
            .takes::<data::Note>()
            .gives::<Version>(),
        route(Method::GET, "/api/versions/{id}/export", "A version as a zip", || get(data::export))
            .asks::<data::AsForm>(),
        route(Method::GET, "/api/versions/{id}/pictures/{name}", "A validation picture of a version", || {
            get(comparison::picture)
        }),
        route(Method::POST, "/api/comparisons", "Measure models on a version's validation pictures", || {
            post(comparison::begin)
        })
        .takes::<comparison::NewComparison>()
        .gives::<Done>(),
        route(Method::GET, "/api/comparisons", "Models side by side, and where they disagree", || {
            get(comparison::get)
        })
        .asks::<comparison::Asked>()
        .gives::<crate::library::comparison::Comparison>(),
        route(Method::GET, "/api/images/{id}", "An image with its boxes", || get(data::image))
            .gives::<i::Image>(),
        route(Method::GET, "/api/images/{id}/small", "A small picture", || get(data::thumbnail)),
        route(Method::GET, "/api/images/{id}/picture", "The picture", || get(data::picture)),
        route(Method::PUT, "/api/images/{id}/boxes", "Replace an image's boxes", || put(data::save_boxes))
            .takes::<a::NewBoxes>()
            .gives::<a::Saved>(),
        route(Method::POST, "/api/images/{id}/suggest", "Boxes that a model suggests", || {
            post(data::suggest)
        })
        .takes::<data::Suggester>()
        .gives::<data::Suggestion>(),
        route(Method::GET, "/api/models", "Models and known architectures", || get(models::gallery))
            .gives::<m::Gallery>(),
        route(Method::POST, "/api/models", "Take an upload in as a model", || post(models::add))
            .takes::<models::NewModel>()
            .gives::<Made>(),
        route(Method::GET, "/api/models/{id}", "A model", || get(models::get)).gives::<m::Model>(),
        route(Method::DELETE, "/api/models/{id}", "Remove an uploaded model", || delete(models::delete))
            .gives::<Done>(),
        route(Method::POST, "/api/models/{id}/predict", "Find objects in the picture that is sent", || {
            post(models::predict)
        })
        .asks::<models::Trial>()
        .gives::<serde_json::Value>()
        .at_most(PICTURE),
        route(Method::GET, "/api/models/{id}/file", "The model file", || get(models::file)),
        route(Method::GET, "/api/models/{id}/exports", "Exports that were made of a model", || {
            get(models::exports)
        })
        .gives::<models::Exports>(),
        route(Method::POST, "/api/models/{id}/exports", "Export a model, with its proof", || {
            post(models::export)
        })
        .takes::<models::AsFormat>()
        .gives::<crate::library::exports::Exported>(),
        route(Method::GET, "/api/models/{id}/exports/{format}", "An exported model", || {
            get(models::exported)
        }),
        route(Method::GET, "/api/endpoints", "Every inference endpoint", || get(endpoints::list))
            .gives::<endpoints::Endpoints>(),
        route(Method::GET, "/api/models/{id}/endpoint", "A model's inference endpoint", || {
            get(endpoints::get)
        })
        .gives::<endpoints::OfModel>(),
        route(Method::POST, "/api/models/{id}/endpoint", "Start a model's inference endpoint", || {
            post(endpoints::start)
        })
        .gives::<Endpoint>(),
        route(Method::DELETE, "/api/models/{id}/endpoint", "Stop a model's inference endpoint", || {
            delete(endpoints::stop)
        })
        .gives::<Done>(),
        route(Method::GET, "/api/jobs", "Every run", || get(runs::list)).gives::<runs::Jobs>(),
        route(Method::POST, "/api/jobs", "Queue a run", || post(runs::create))
            .takes::<NewJob>()
            .gives::<Made>(),
        route(Method::GET, "/api/jobs/{id}", "A run", || get(runs::get)).gives::<Job>(),
        route(Method::DELETE, "/api/jobs/{id}", "Remove a run and its files", || delete(runs::delete))
            .gives::<Done>(),
        route(Method::POST, "/api/jobs/{id}/stop", "Stop a run; it can be resumed", || post(runs::stop))
            .takes::<runs::Stop>()
            .gives::<Done>(),
        route(Method::POST, "/api/jobs/{id}/resume", "Resume a stopped or failed run", || post(runs::resume))
            .gives::<Done>(),
        route(Method::POST, "/api/jobs/{id}/extend", "Train on a run that has ended", || post(runs::extend))
            .takes::<runs::Longer>()
            .gives::<Done>(),
        route(Method::GET, "/api/jobs/{id}/log", "The end of a run's log", || get(runs::log))
            .gives::<runs::Log>(),
        route(Method::GET, "/api/jobs/{id}/curves", "A run's curves", || get(runs::curves))
            .gives::<runs::Curves>(),
        route(Method::GET, "/api/jobs/{id}/drawings", "Pictures that a run has drawn", || {
            get(runs::drawings)
        })
        .gives::<runs::Drawings>(),
        route(Method::GET, "/api/jobs/{id}/drawings/{name}", "One of them", || get(runs::drawing)),
        route(Method::GET, "/api/compare", "One figure of several runs", || get(runs::compare))
            .asks::<runs::Comparing>()
            .gives::<runs::Comparison>(),
    ]
}
