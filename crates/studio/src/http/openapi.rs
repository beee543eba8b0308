//! The API's documentation, made from the table of routes and the types themselves.
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Access, routes};

/// The OpenAPI 3.1 document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let mut parameters = path_parameters(route.path);
        if let Some(query) = route.query {
            parameters.extend(query_parameters(&query(&mut generator).to_value()));
        }
        let mut operation = json!({
            "summary": route.summary,
            "parameters": parameters,
            "responses": {
                "200": { "description": "Done" },
                "401": { "description": "No token" },
                "403": { "description": "A request of another site" },
            },
        });
        if route.access == Access::Token {
            operation["security"] = json!([{ "cookie": [] }, { "bearer": [] }]);
        }
        if let Some(request) = route.request {
            let schema = request(&mut generator);
            operation["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema}}});
        }
        if let Some(response) = route.response {
            let schema = response(&mut generator);
            let kind = if route.path == "/api/events" { "text/event-stream" } else { "application/json" };
            operation["responses"]["200"]["content"] = json!({ kind: { "schema": schema } });
        }
        // OpenAPI has no parameter that spans slashes.
        let path = route.path.replace("{*", "{");
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.as_str().to_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "onsa studio",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the studio's application uses. A problem is answered as {message, hint} with 400, 404, 409 or 500.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "cookie": { "type": "apiKey", "in": "cookie", "name": "onsa_PORT" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names
        .map(|name| {
            let name = name.trim_start_matches('*');
            let number = matches!(name, "id" | "class") && !path.starts_with("/api/uploads");
            let kind = if number { "integer" } else { "string" };
            json!({"name": name, "in": "path", "required": true, "schema": {"type": kind}})
        })
        .collect()
}

fn query_parameters(schema: &Value) -> Vec<Value> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| {
            let required = required.contains(&name.as_str());
            json!({"name": name, "in": "query", "required": required, "schema": schema})
        })
        .collect()
}
