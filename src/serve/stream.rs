//! Answers event by event: server-sent events, or lines of JSON.
//!
//! An interface implements [`Writer`]. The stream reads the replies only as fast as the client reads, and dropping it
//! cancels them.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use hyper::body::Frame;
use serde_json::Value;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::ask::Replies;
use super::error::ApiError;
use crate::engine::Event;

/// The time between signs of life while nothing else is sent, so that no proxy takes the connection for dead.
const PING: Duration = Duration::from_secs(15);

/// The most bytes that are gathered before they are sent.
const MOST_GATHERED: usize = 16 << 10;

/// Bytes to send.
#[derive(Debug, Default)]
pub(super) struct Frames(Vec<u8>);

impl Frames {
    /// A server-sent event without a name.
    pub fn data(&mut self, value: &Value) {
        self.0.extend_from_slice(b"data: ");
        self.json(value);
        self.0.extend_from_slice(b"\n\n");
    }

    /// A server-sent event with a name.
    pub fn event(&mut self, name: &str, value: &Value) {
        self.text(&format!("event: {name}\n"));
        self.data(value);
    }

    /// A line of JSON.
    pub fn line(&mut self, value: &Value) {
        self.json(value);
        self.0.push(b'\n');
    }

    pub fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn json(&mut self, value: &Value) {
        self.0.extend_from_slice(value.to_string().as_bytes());
    }
}

#[cfg(test)]
impl std::fmt::Display for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// An interface's way to write a stream.
pub(super) trait Writer: Send + 'static {
    /// Writes what comes before the first event.
    fn start(&mut self, _out: &mut Frames) {}

    /// Writes an event of a choice. [`Event::Failed`] does not come here.
    fn event(&mut self, choice: usize, event: &Event, out: &mut Frames);

    /// Writes the end, after the last event of all choices.
    fn end(&mut self, out: &mut Frames);

    /// Writes an error, after which the stream ends.
    fn error(&mut self, error: &ApiError, out: &mut Frames);

    /// True for server-sent events, false for lines of JSON.
    fn is_sse(&self) -> bool {
        true
    }

    /// Writes a sign of life.
    fn ping(&mut self, out: &mut Frames) {
        if self.is_sse() {
            out.text(":\n\n");
        }
    }
}

/// The response that streams the replies.
pub(super) fn respond(replies: Replies, mut writer: impl Writer + Unpin) -> Response {
    let mut out = Frames::default();
    writer.start(&mut out);
    let content_type = if writer.is_sse() { "text/event-stream" } else { "application/x-ndjson" };
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut streamed = Streamed { replies: Some(replies), writer, out, ping };
    polled(content_type, move |context| streamed.poll(context))
}

/// The response whose body is given piece by piece; `None` ends it.
pub(super) fn polled(
    content_type: &'static str,
    poll: impl FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Send + Unpin + 'static,
) -> Response {
    let mut response = Response::new(Body::new(Polled(poll)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Waits for all replies, whose events only tell the writer what the whole answer is.
pub(super) async fn drain(mut replies: Replies, writer: &mut impl Writer) -> Result<(), ApiError> {
    while let Some((choice, event)) = replies.next().await {
        match event {
            Event::Failed(error) => return Err(error.into()),
            event => writer.event(choice, &event, &mut Frames::default()),
        }
    }
    Ok(())
}

struct Streamed<W> {
    /// `None` after the end.
    replies: Option<Replies>,
    writer: W,
    out: Frames,
    ping: Interval,
}

impl<W: Writer> Streamed<W> {
    /// Writes all events that are there. Returns true if there are no further ones, or enough bytes to send.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        while let Some(replies) = &mut self.replies {
            if self.out.0.len() >= MOST_GATHERED {
                return true;
            }
            match replies.poll_next(context) {
                Poll::Ready(Some((_, Event::Failed(error)))) => {
                    self.writer.error(&ApiError::from(error), &mut self.out);
                    self.replies = None;
                }
                Poll::Ready(Some((choice, event))) => self.writer.event(choice, &event, &mut self.out),
                Poll::Ready(None) => {
                    self.writer.end(&mut self.out);
                    self.replies = None;
                }
                Poll::Pending => return false,
            }
        }
        true
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let ended = self.gather(context);
        if self.out.0.is_empty() && !ended && self.ping.poll_tick(context).is_ready() {
            self.writer.ping(&mut self.out);
            // Asks to be woken for the next one.
            let _ = self.ping.poll_tick(context);
        }
        if !self.out.0.is_empty() {
            self.ping.reset();
            return Poll::Ready(Some(std::mem::take(&mut self.out.0)));
        }
        if ended { Poll::Ready(None) } else { Poll::Pending }
    }
}

/// A body whose pieces a function gives.
struct Polled<F>(F);

impl<F> HttpBody for Polled<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<Option<Vec<u8>>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        (self.0)(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes.into()))))
    }
}
