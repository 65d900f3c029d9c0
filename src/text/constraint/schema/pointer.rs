//! JSON pointers.

use serde_json::Value;

/// The path of a member of the value at a path.
pub(super) fn join(path: &str, key: &str) -> String {
    format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// The value at a path that begins with `#`.
pub(super) fn at<'s>(root: &'s Value, path: &str) -> Option<&'s Value> {
    root.pointer(path.strip_prefix('#')?)
}
