//! The demo model's 400 questions, each with one right answer, and the code that answers them.

use rfgraph::model::{Model, SequenceId, Session, SessionExtras, SessionOptions};
use rfgraph::text::{ChatTemplate, Message, Tokenizer};
use serde_json::Value;

use super::inside::inside;
use super::sessions::largest;

/// The quantized forms of the demo model; the files are too large for the repository.
pub const FORMS: [&str; 7] = ["f16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0", "Q2_K", "IQ4_XS"];

/// The longest answer in tokens, with room for a wrong one.
const N_PREDICT: usize = 24;

/// Questions with their answers.
pub fn questions() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(inside("demo/questions.jsonl")).unwrap();
    let line = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| value[key].as_str().unwrap().to_string();
        (text("question"), text("answer"))
    };
    let questions: Vec<_> = text.lines().map(line).collect();
    assert_eq!(questions.len(), 400);
    questions
}

/// `n` of the questions, spread evenly, since the file mixes their kinds.
pub fn some_questions(n: usize) -> Vec<(String, String)> {
    let all = questions();
    (0..n).map(|i| all[i * all.len() / n].clone()).collect()
}

/// The token with the largest logit, the first of equal ones.
pub fn greedy(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best });
    best.unwrap() as u32
}

/// Greedy answers in one session, as many at a time as it has sequences.
pub struct Answerer {
    session: Session,
    at_once: usize,
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

/// An answer in progress.
struct Answer {
    id: SequenceId,
    next: u32,
    tokens: Vec<u32>,
}

impl Answerer {
    pub fn new(model: &Model, options: &SessionOptions, extras: &SessionExtras) -> Answerer {
        let tokenizer = model.tokenizer().unwrap();
        let template = model.chat_template(&tokenizer).unwrap();
        let session = Session::with(model, options, extras).unwrap();
        Answerer { session, at_once: options.n_sequences, tokenizer, template }
    }

    fn begin(&mut self, question: &str) -> Answer {
        let prompt = self.template.render(&[Message::new("user", question)], true).unwrap();
        let tokens = self.tokenizer.encode_chat(&prompt);
        let id = self.session.open().unwrap();
        let next = greedy(self.session.prefill(id, &tokens).unwrap());
        Answer { id, next, tokens: Vec::new() }
    }

    fn is_complete(&self, answer: &Answer) -> bool {
        self.tokenizer.is_end_of_generation(answer.next) || answer.tokens.len() == N_PREDICT
    }

    /// Computes one token of the only incomplete answer, chosen on the device as in text generation.
    fn step(&mut self, answer: &mut Answer) {
        answer.tokens.push(answer.next);
        answer.next = largest(&mut self.session, answer.id, answer.next);
    }

    fn answers(&mut self, questions: &[(String, String)]) -> Vec<String> {
        let mut all: Vec<Answer> = questions.iter().map(|(question, _)| self.begin(question)).collect();
        loop {
            let mut open: Vec<&mut Answer> =
                all.iter_mut().filter(|answer| !self.is_complete(answer)).collect();
            if open.is_empty() {
                break;
            }
            if let [answer] = &mut open[..] {
                self.step(answer);
                continue;
            }
            let next: Vec<(SequenceId, u32)> = open.iter().map(|answer| (answer.id, answer.next)).collect();
            let logits = self.session.decode(&next).unwrap();
            for (answer, row) in open.iter_mut().zip(logits.rows()) {
                answer.tokens.push(answer.next);
                answer.next = greedy(row);
            }
        }
        all.iter().for_each(|answer| self.session.close(answer.id).unwrap());
        all.iter().map(|answer| self.tokenizer.decode(&answer.tokens, false).trim().to_string()).collect()
    }

    /// Asserts that every question is answered right.
    pub fn check(&mut self, name: &str, questions: &[(String, String)]) {
        assert!(!questions.is_empty());
        let mut wrong = Vec::new();
        for questions in questions.chunks(self.at_once) {
            for ((question, answer), found) in questions.iter().zip(self.answers(questions)) {
                if found != *answer {
                    wrong.push(format!("{question} {found}, not {answer}"));
                }
            }
        }
        let n = questions.len();
        assert!(wrong.is_empty(), "{name}: {} of {n} wrong\n{}", wrong.len(), wrong.join("\n"));
    }
}
