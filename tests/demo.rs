//! The demo model's 400 questions, each with its only right answer: one wrong kernel shows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::NonZeroUsize;
use std::path::Path;

use rfgraph::model::{Model, Session, SessionOptions};
use rfgraph::text::{ChatTemplate, Message, Tokenizer};
use serde_json::Value;

#[path = "support/outside.rs"]
mod outside;
use outside::outside;

/// Longest answer of the questions, in tokens, with room to be wrong.
const N_PREDICT: usize = 24;

fn questions() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/demo/questions.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().unwrap().to_string();
        (text("question"), text("answer"))
    };
    text.lines().map(line).collect()
}

/// Greedy answers, one sequence after another in one session.
struct Answerer {
    session: Session,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Answerer {
    fn new(model: &Model) -> Answerer {
        // One thread: tests run side by side, and threads of one step would wait for each other's cores.
        let threads = Some(NonZeroUsize::MIN);
        let options = SessionOptions { n_ctx: 512, threads, ..SessionOptions::default() };
        let tokenizer = model.tokenizer().unwrap();
        let template = model.chat_template(&tokenizer).unwrap();
        Answerer { session: Session::new(model, &options).unwrap(), tokenizer, template }
    }

    fn answer(&mut self, question: &str) -> String {
        let prompt = self.template.render(&[Message::new("user", question)], true).unwrap();
        let tokens = self.tokenizer.encode_chat(&prompt);
        let id = self.session.open().unwrap();
        let mut next = greedy(self.session.prefill(id, &tokens).unwrap());
        let mut answer = Vec::new();
        while !self.tokenizer.is_end_of_generation(next) && answer.len() < N_PREDICT {
            answer.push(next);
            next = greedy(self.session.decode(&[(id, next)]).unwrap().row(0));
        }
        self.session.close(id).unwrap();
        self.tokenizer.decode(&answer, false).trim().to_string()
    }

    fn check(&mut self, name: &str) {
        let questions = questions();
        assert_eq!(questions.len(), 400);
        let mut wrong = Vec::new();
        for (question, answer) in questions {
            let found = self.answer(&question);
            if found != answer {
                wrong.push(format!("{question} {found}, not {answer}"));
            }
        }
        assert!(wrong.is_empty(), "{name}: {} wrong\n{}", wrong.len(), wrong.join("\n"));
    }
}

fn greedy(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });
    best.unwrap() as u32
}

#[test]
fn the_built_in_model_answers_every_question() {
    Answerer::new(&Model::demo().unwrap()).check("built in");
}

/// The same from every file that it was quantized to; they are too large for the repository.
#[test]
fn every_quantized_form_answers_every_question() {
    let Some(folder) = outside("demo") else { return };
    for form in ["f16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q2_K", "IQ4_XS"] {
        let path = folder.join(format!("demo-{form}.gguf"));
        Answerer::new(&Model::open(&path).unwrap()).check(form);
    }
}
