//! Streams whose events have names.

use serde_json::Value;

use crate::client::Response;

/// The data of a stream's events; asserts that each has its type as its name.
#[track_caller]
pub fn named_events(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    let events = response.body.split("\n\n").filter(|event| !event.is_empty());
    events
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event}");
            data
        })
        .collect()
}

/// The types of the events, without the first part of the name that all share.
pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}
