//! Finds the form of a model's calls by rendering made-up ones with its chat template.
//!
//! A conversation is rendered with an assistant's message of one call, two and three calls, and a text (`rendering`).
//! Names, ids, keys and values are texts that stand nowhere else, so that whatever stands around them is the form.

use std::ops::Range;

use serde_json::{Value, json};

use super::form::{Arguments, Form, Pattern, Piece, before_marker, first_marker, last_marker, shared_start};
use super::members;
use super::rendering::{CONTENT, Head, ID_PIECES, KEYS, NAMES, Probe, QUESTION, TEXTS, THOUGHTS};
use crate::text::answer::{ANSWER_MARKERS, AnswerFormat, MarkerRole};
use crate::text::template::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

/// Most bytes before or after calls: more is not the calls' own.
const LONGEST: usize = 256;

/// The facts that a template shows.
pub(super) struct Probed {
    /// The form of calls, if the template writes calls.
    pub(super) form: Option<Form>,
    /// The prompt has the tools.
    pub(super) shows_tools: bool,
}

/// Probes a template.
pub(super) fn probe(template: &ChatTemplate, tokenizer: &Tokenizer, format: &AnswerFormat) -> Probed {
    let mut probe = Probe::new(template, tokenizer);
    let prompt = probe.render(None, true).unwrap_or_default();
    let shows_tools = prompt.contains(NAMES[0]);
    let form = [false, true].into_iter().find_map(|as_text| {
        probe.as_text = as_text;
        probe.form(&prompt, format)
    });
    Probed { form, shows_tools }
}

impl Probe<'_> {
    fn form(&mut self, prompt: &str, format: &AnswerFormat) -> Option<Form> {
        let rich = json!({KEYS[0]: TEXTS[0], "qn": 4711});
        let rendered = self.calls(&[&rich], None)?;
        let asked = rendered.find(QUESTION)? + QUESTION.len();
        let named = asked + rendered[asked..].find(NAMES[0])?;
        let shared = |other: &str| before_marker(&rendered, shared_start(&rendered, other)).min(named);
        let text_start = self.said.as_deref().map_or(asked, shared).max(asked);
        let closes = ANSWER_MARKERS.iter().filter(|row| row.role == MarkerRole::Thoughts);
        let thoughts_end = closes
            .filter_map(|row| {
                rendered[asked..text_start]
                    .rfind(row.close?)
                    .map(|at| asked + at + row.close.map_or(0, str::len))
            })
            .max();
        let base = shared(prompt).max(thoughts_end.unwrap_or(0)).max(asked);
        self.base = rendered[..base].to_owned();
        let mut form = self.json_form().or_else(|| members::form(self))?;
        let too_long = [&form.first, &form.tail].iter().any(|pattern| pattern.len() > LONGEST);
        if too_long || self.find_end(form.first.leading_text()).is_some() {
            return None;
        }
        // An answer does not go on after a token that ends it.
        let ends = |next: &Pattern| {
            next.0.iter().any(|piece| matches!(piece, Piece::Text(text) if self.find_end(text).is_some()))
        };
        form.next = form.next.filter(|next| !ends(next));
        self.mark(&mut form, text_start.saturating_sub(base), format);
        Some(form)
    }

    /// The form, if arguments are an object in JSON.
    fn json_form(&self) -> Option<Form> {
        let rich = json!({KEYS[0]: TEXTS[0], "qn": 4711, "ql": [null, true, 2.5, {"a": "b c"}], "qe": {}});
        let others = [json!({"qa": 1}), json!({"qb": 2})];
        let one = self.answer(&[&rich], "}")?;
        let place = find_object(&one, 0, &rich)?;
        let head = Head::of(&one[..place.start], 0)?;
        let ended =
            |text: &str, n: usize| Pattern::of(text, &[&ID_PIECES[..], &[(NAMES[n], Piece::Name)]].concat());
        let tail = ended(&one[place.end..], 0);
        let (mut before, mut next) = (head.rest, None);
        let several = || {
            let all = [&rich, &others[0], &others[1]];
            let written = self.answer(&all, "}")?;
            let mut heads = Vec::new();
            let mut from = 0;
            for (n, value) in all.into_iter().enumerate() {
                let place = find_object(&written, from, value)?;
                heads.push(Head::of(&written[from..place.start], n)?);
                from = place.end;
            }
            // The last call ends like a single one.
            (ended(&written[from..], 2) == tail).then_some(heads)
        };
        if let Some([first, second, third]) = several().as_deref()
            && first.name == head.name
            && let Some(indexed) = first.rest.clone().with_index(&second.rest)
            && let Some(between) = second.name.clone().with_index(&third.name)
        {
            (before, next) = (indexed, Some(between));
        }
        Some(Form {
            first: head.name,
            lead: 0,
            open: String::new(),
            next,
            arguments: Arguments::Json(before),
            tail,
            close: None,
            text_lead: String::new(),
            text_tail: String::new(),
            thoughts: None,
        })
    }

    /// Finds the markers of calls, and what an answer with headers has beside them.
    fn mark(&self, form: &mut Form, text_start: usize, format: &AnswerFormat) {
        let head = form.first.leading_text().to_owned();
        let tail = form.tail.leading_text();
        let rows = ANSWER_MARKERS.iter().filter(|row| row.role == MarkerRole::ToolCall);
        let known = rows
            .filter_map(|row| Some((head.find(row.open)?, row)))
            .min_by_key(|(at, row)| (*at, std::cmp::Reverse(row.open.len())));
        if format.has_headers() {
            // A header says that a call begins.
        } else if let Some((at, row)) = known {
            (form.lead, form.open) = (at, row.open.to_owned());
            form.close = row.close.map(str::to_owned);
        } else {
            // The head is of another rendering: a template may do something else with other arguments.
            let own = head.get(text_start..).unwrap_or_default().trim_start();
            let marker = first_marker(own).or_else(|| own.starts_with(['<', '[']).then(|| own.trim_end()));
            let marker = marker.unwrap_or_default();
            form.lead = head.len() - own.len() + own.find(marker).unwrap_or(0);
            form.open = marker.to_owned();
            form.close = last_marker(tail).filter(|_| !marker.is_empty()).map(str::to_owned);
        }
        let said = self.said.as_deref().and_then(|said| said.strip_prefix(&self.base)?.split_once(CONTENT));
        if let Some((lead, tail)) = said {
            form.text_lead = lead.to_owned();
            let marks =
                ANSWER_MARKERS.iter().filter(|row| row.role == MarkerRole::Text && lead.ends_with(row.open));
            let close = marks.filter_map(|row| row.close.filter(|close| tail.starts_with(close))).next();
            form.text_tail = close.unwrap_or(&tail[..self.find_end(tail).unwrap_or(0)]).to_owned();
        }
        if format.has_headers() {
            form.thoughts = self.thoughts(form);
        }
    }

    /// The marks around thoughts before a call.
    fn thoughts(&self, form: &Form) -> Option<[String; 2]> {
        let rendered = self.calls(&[&json!({KEYS[0]: TEXTS[0]})], Some(THOUGHTS))?;
        let (open, rest) = rendered.strip_prefix(&self.base)?.split_once(THOUGHTS)?;
        let first = form.first.filled(super::form::Values { name: NAMES[0], ..Default::default() });
        let close = rest.split_once(first.leading_text())?.0;
        Some([open.to_owned(), close.to_owned()])
    }
}

/// The first place at which a text has this object.
fn find_object(text: &str, from: usize, object: &Value) -> Option<Range<usize>> {
    for (at, _) in text[from..].match_indices('{') {
        let start = from + at;
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        if values.next().is_some_and(|value| value.is_ok_and(|value| value == *object)) {
            return Some(start..start + values.byte_offset());
        }
    }
    None
}
