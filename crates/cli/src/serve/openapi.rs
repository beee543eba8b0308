//! The interface's description, OpenAPI 3.1.
use serde_json::{Value, json};

/// Every route: path, method, whether it is open without a key, what it is called in the metrics, what it does.
pub const ROUTES: [(&str, &str, bool, &str, &str); 6] = [
    ("/health", "get", true, "health", "Whether the server answers, and its models' names"),
    ("/metrics", "get", false, "metrics", "Counters in Prometheus' text format"),
    ("/openapi.json", "get", false, "openapi", "This document"),
    ("/v1/models", "get", false, "models", "The models with their classes"),
    ("/v1/predict", "post", false, "predict", "Find objects in one picture"),
    ("/v1/models/{model}/predict", "post", false, "predict", "The same with a named model"),
];

/// The document. `max_body` stands in the description.
pub fn document(max_body: usize) -> Value {
    let mut paths = serde_json::Map::new();
    for (path, method, open, kind, about) in ROUTES {
        let mut operation = json!({"summary": about, "responses": responses(kind, open)});
        if !open {
            operation["security"] = json!([{"bearer": []}, {"header": []}]);
        }
        if kind == "predict" {
            operation["parameters"] = parameters(path);
            operation["requestBody"] = json!({
                "required": true,
                "description": format!("The picture's file as it is: JPEG, PNG, WebP, BMP, TIFF or DICOM, at most {max_body} bytes."),
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            });
        }
        paths.insert(path.to_owned(), json!({ method: operation }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "onsa serve", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {
                "Prediction": prediction(),
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
            },
        },
    })
}

fn parameters(path: &str) -> Value {
    let query = |name: &str, schema: Value, about: &str| json!({"name": name, "in": "query", "required": false, "schema": schema, "description": about});
    let unit = || json!({"type": "number", "minimum": 0, "maximum": 1});
    let mut list = vec![
        query("image", json!({"type": "string", "maxLength": 256}), "Comes back as `image`"),
        query("conf", unit(), "Least confidence; 0.25"),
        query("iou", unit(), "Of two boxes that overlap by more, the less confident goes; 0.7"),
        query("max_det", json!({"type": "integer", "minimum": 1, "maximum": 1000}), "Most boxes; 300"),
    ];
    if path.contains("{model}") {
        list.push(json!({"name": "model", "in": "path", "required": true, "schema": {"type": "string"}}));
    } else {
        list.push(query("model", json!({"type": "string"}), "Which model; the only one, if there is one"));
    }
    Value::Array(list)
}

fn responses(kind: &str, open: bool) -> Value {
    let error = |about: &str| {
        json!({
            "description": about,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        })
    };
    let mut out = json!({"200": {"description": "Done"}, "403": error("A foreign host or web site")});
    if !open {
        out["401"] = error("The key is missing or wrong");
        out["429"] = error("Too many requests from this address, or the queue is full; see Retry-After");
    }
    if kind == "predict" {
        out["200"]["content"] =
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/Prediction"}}});
        for (status, about) in [
            ("400", "A parameter is wrong, or the picture is damaged"),
            ("404", "There is no such model"),
            ("408", "The body took too long"),
            ("413", "The body or the picture is too large"),
            ("415", "The body is no picture that is read"),
            ("500", "The model failed"),
            ("503", "The server is stopping or out of memory for bodies; see Retry-After"),
        ] {
            out[status] = error(about);
        }
    }
    out
}

fn prediction() -> Value {
    let number = || json!({"type": "number"});
    json!({
        "type": "object",
        "required": ["image", "width", "height", "model"],
        "properties": {
            "image": {"type": "string"},
            "width": {"type": "integer", "description": "Pixels, upright"},
            "height": {"type": "integer"},
            "model": {"type": "string"},
            "boxes": {"type": "array", "description": "Of a detector", "items": {
                "type": "object",
                "required": ["class", "name", "score", "xyxy"],
                "properties": {
                    "class": {"type": "integer"},
                    "name": {"type": "string"},
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                    "xyxy": {
                        "type": "array", "items": number(), "minItems": 4, "maxItems": 4,
                        "description": "Left, top, right, bottom in pixels of the picture",
                    },
                },
            }},
            "top5": {"type": "array", "description": "Of a classifier: the likeliest classes first", "items": {
                "type": "object",
                "required": ["class", "name", "score"],
                "properties": {
                    "class": {"type": "integer"},
                    "name": {"type": "string"},
                    "score": {"type": "number", "minimum": 0, "maximum": 1},
                },
            }},
        },
    })
}
