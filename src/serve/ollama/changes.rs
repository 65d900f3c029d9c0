//! `POST /api/pull`, `POST /api/copy` and `DELETE /api/delete`: changes of the models that the library has, each allowed by
//! who starts the server.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fields::streams;
use super::models::digest;
use super::{id_of, id_of_name};
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::body::Body;
use crate::serve::error::{ApiError, Family, Kind};
use crate::serve::models::{Library, LibraryError, PullProgress, of_library};
use crate::serve::settings::given;
use crate::serve::stream::polled;

/// The shortest time between two lines of progress.
const PACE: Duration = Duration::from_millis(100);

/// The library, if clients may do this with it.
fn allowed(app: &App, path: &str, is_allowed: bool, flag: &str) -> Result<Arc<dyn Library>, ApiError> {
    if !is_allowed {
        let message = format!("{path} is not allowed: this server was started without {flag}");
        return Err(ApiError::new(Kind::Forbidden, message));
    }
    app.models.library().map(Arc::clone).ok_or_else(|| of_library("", LibraryError::Unsupported))
}

fn text<'b>(body: &'b Body, names: &[&str]) -> Result<&'b str, ApiError> {
    let value = names.iter().find_map(|name| given(&body.0, name));
    match value.map(Value::as_str) {
        Some(Some(text)) if !text.is_empty() => Ok(text),
        _ => Err(ApiError::invalid(names[0], format!("{} is required", names[0]))),
    }
}

pub(in crate::serve) async fn copy(State(app): State<Arc<App>>, body: Body) -> Result<StatusCode, ApiError> {
    let library = allowed(&app, "/api/copy", app.options.allow_pull, "allow-pull")?;
    let source = id_of_name(&app, text(&body, &["source"])?).await?;
    let name = text(&body, &["destination"])?.to_string();
    apart(move || library.copy(&source, &name).map_err(|error| of_library(&source, error))).await?;
    Ok(StatusCode::OK)
}

pub(in crate::serve) async fn delete(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let library = allowed(&app, "/api/delete", app.options.allow_delete, "allow-delete")?;
    let (id, _) = id_of(&app, &body).await?;
    let deleted = id.clone();
    apart(move || library.delete(&id).map_err(|error| of_library(&id, error))).await?;
    app.models.unload(&deleted).await;
    Ok(StatusCode::OK)
}

/// An event of a download.
enum Event {
    Progress(PullProgress),
    End(Result<(), LibraryError>),
}

pub(in crate::serve) async fn pull(State(app): State<Arc<App>>, body: Body) -> Result<Response, ApiError> {
    let library = allowed(&app, "/api/pull", app.options.allow_pull, "allow-pull")?;
    let name = text(&body, &["model", "name"])?.to_string();
    let streamed = streams(&body.0)?;
    let mut events = start(library, name.clone());
    if !streamed {
        while let Some(event) = events.recv().await {
            if let Event::End(result) = event {
                result.map_err(|error| of_library(&name, error))?;
                return Ok(Json(json!({"status": "success"})).into_response());
            }
        }
        return Err(ApiError::new(Kind::Failed, "the download ended without a result"));
    }
    // A name that cannot be downloaded is an error before the first line.
    let first = events.recv().await;
    if let Some(Event::End(Err(error))) = first {
        return Err(of_library(&name, error));
    }
    let mut begin = line(&json!({"status": "pulling manifest"}));
    let mut lines = Lines { digest: digest(&[&name]), name, is_over: false };
    if let Some(event) = first {
        begin.extend(lines.of(event));
    }
    Ok(polled("application/x-ndjson", move |context| {
        if !begin.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut begin)));
        }
        if lines.is_over {
            return Poll::Ready(None);
        }
        events.poll_recv(context).map(|event| Some(lines.of(event?)))
    }))
}

/// Downloads on a thread of its own. The download ends when the receiver is dropped; what is there is kept.
fn start(library: Arc<dyn Library>, name: String) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        let mut last: Option<Instant> = None;
        let result = library.pull(&name, &mut |progress| {
            let is_due = last.is_none_or(|last| last.elapsed() >= PACE) || progress.done == progress.total;
            // A line that finds no room is one of many.
            if progress.total > 0 && is_due && sender.try_send(Event::Progress(progress)).is_ok() {
                last = Some(Instant::now());
            }
            match sender.is_closed() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        // Nobody may be there to hear it.
        let _ = sender.blocking_send(Event::End(result));
    });
    events
}

fn line(value: &Value) -> Vec<u8> {
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// The lines of a download.
struct Lines {
    name: String,
    digest: String,
    is_over: bool,
}

impl Lines {
    fn of(&mut self, event: Event) -> Vec<u8> {
        match event {
            Event::Progress(PullProgress { done, total }) => {
                // Clients show the digest's first digits, and one bar for each digest.
                let status = format!("pulling {}", &self.digest[..12]);
                let digest = format!("sha256:{}", self.digest);
                line(&json!({"status": status, "digest": digest, "total": total, "completed": done}))
            }
            Event::End(Ok(())) => {
                self.is_over = true;
                let all = ["verifying sha256 digest", "writing manifest", "success"];
                all.iter().flat_map(|status| line(&json!({ "status": status }))).collect()
            }
            Event::End(Err(error)) => {
                self.is_over = true;
                line(&of_library(&self.name, error).body(Family::Ollama, ""))
            }
        }
    }
}
