//! `/openapi.json` describes the routes that there are, and `/docs` shows it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::client::{JSON, SHARED, get, request};

/// HEAD is not one: a GET is answered without its body for it.
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];

/// A described method is answered, and another one is refused: the description is neither longer nor shorter than the
/// routes.
#[test]
fn each_route_takes_the_methods_that_are_described() {
    let document = get("/openapi.json").json(200);
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 40, "{}", paths.len());
    for (path, methods) in paths {
        let address = path.replace("{id}", "x").replace("{digest}", "sha256:0");
        for method in METHODS {
            let is_described = methods.get(method.to_lowercase()).is_some();
            // The page has GET /, and is no interface.
            if path == "/" && method == "GET" {
                continue;
            }
            let status = request(*SHARED, method, &address, JSON, "{}").status;
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
            assert!(status != 500, "{method} {path}: {status}");
        }
    }
}

#[test]
fn a_description_is_whole() {
    let document = get("/openapi.json").json(200);
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 5), "{method} {path}");
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            assert_eq!(operation.get("requestBody").is_some(), method == "post", "{method} {path}");
            let named = path.matches('{').count();
            assert_eq!(operation["parameters"].as_array().unwrap().len(), named, "{method} {path}");
        }
    }
    // The fields of requests are those of the tables.
    let sampling = &document["components"]["schemas"]["Sampling"]["properties"];
    assert!(sampling["temperature"].is_object() && sampling["min_p"].is_object(), "{sampling}");
    let chat = &document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"];
    let fields = &chat["application/json"]["schema"]["allOf"][0];
    assert_eq!(fields["required"], serde_json::json!(["messages"]));
    let schemas = document.to_string();
    let references = schemas.matches("\"$ref\":\"#/components/schemas/").count();
    let known = ["Sampling", "Error"].map(|name| schemas.matches(&format!("schemas/{name}\"")).count());
    assert_eq!(references, known.iter().sum::<usize>());
}

#[test]
fn the_page_of_routes_has_nothing_of_another_host() {
    let page = get("/docs");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'"))
    );
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    for file in ["style.css", "docs.css", "docs.js"] {
        assert!(page.body.contains(&format!("\"{file}\"")), "{file}");
        let file = get(&format!("/{file}"));
        assert_eq!(file.status, 200);
        assert!(!file.body.contains("innerHTML") && !file.body.contains("://"), "{}", file.body);
    }
    assert!(!page.body.contains("://") && !page.body.contains("<style") && !page.body.contains("onload"));
    assert_eq!(get("/docs.html").status, 404);
    let _: Value = get("/openapi.json").json(200);
}
