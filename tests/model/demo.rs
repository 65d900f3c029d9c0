//! The demo model's 400 questions, each with one right answer: any wrong kernel fails them.

use std::num::NonZeroUsize;

use rfgraph::model::{Model, SessionExtras, SessionOptions};

use crate::support::demo::{Answerer, FORMS, questions};
use crate::support::outside::outside;

fn check(name: &str, model: &Model) {
    // One thread: tests run side by side, and threads of one step would wait for each other's cores.
    let threads = Some(NonZeroUsize::MIN);
    let options = SessionOptions { n_ctx: 512, threads, ..SessionOptions::default() };
    Answerer::new(model, &options, &SessionExtras::default()).check(name, &questions());
}

#[test]
fn the_built_in_model_answers_every_question() {
    check("built in", &Model::demo().unwrap());
}

/// The same for every quantized form of the demo model; these files are too large for the repository.
#[test]
fn every_quantized_form_answers_every_question() {
    let Some(folder) = outside("demo") else { return };
    for form in FORMS {
        check(form, &Model::open(folder.join(format!("demo-{form}.gguf"))).unwrap());
    }
}
