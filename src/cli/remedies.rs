//! The options of the command line for the library's remedies.

use std::fmt::Display;

use crate::Remedy;

/// The option for a remedy, or the environment variable where there is no option.
const fn option(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::SmallerContext | Remedy::LargerContext => "-c",
        Remedy::ContextShift => "--context-shift",
        Remedy::LargerPool => "--pool",
        Remedy::SupportedCacheType => "--cache-type",
        Remedy::SmallerUbatch | Remedy::LargerUbatch => "--ubatch",
        Remedy::FewerGpuLayers => "--gpu-layers",
        Remedy::LargerMemoryFraction => "--memory-fraction",
        Remedy::LongerTimeout => "--timeout",
        Remedy::NoReplays => "RFGRAPH_HIP_GRAPH=0",
        Remedy::OtherDevice => "--device",
        Remedy::PlainPrompt => "--raw",
        Remedy::ChosenPooling => "--pooling",
        Remedy::LogitsFile => "--save-logits",
        Remedy::Requantizing => "--allow-requantize",
    }
}

/// The message of an error, with the options after the words of its remedies.
pub(super) fn with_options(error: &impl Display, remedies: &[Remedy]) -> String {
    let mut message = error.to_string();
    for &remedy in remedies {
        let words = remedy.to_string();
        // The message has the words, as the test `messages_have_the_words_of_their_remedies` checks.
        if let Some(at) = message.find(&words) {
            message.insert_str(at + words.len(), &format!(" ({})", option(remedy)));
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;
    use crate::exec::{Budget, ExecError};
    use crate::hip::{HipError, ProbeError};
    use crate::model::ModelError;
    use crate::quantize::QuantizeError;
    use crate::quantize::perplexity::{BaseError, ChunksError};
    use crate::tensor::DType;
    use crate::text::TemplateError;

    #[test]
    fn options_of_remedies_exist() {
        let command = super::super::Cli::command();
        let exists = |option: &str| {
            command.get_subcommands().flat_map(|command| command.get_arguments()).any(|argument| {
                let long = argument.get_long().map(|long| format!("--{long}"));
                let short = argument.get_short().map(|short| format!("-{short}"));
                long.as_deref() == Some(option) || short.as_deref() == Some(option)
            })
        };
        assert!(!exists("--no-such-option"));
        for option in Remedy::ALL.map(option) {
            match option.split_once('=') {
                Some((variable, _)) => {
                    assert!(include_str!("../../docs/gpu.md").contains(variable), "{option}")
                }
                None => assert!(exists(option), "{option}"),
            }
        }
    }

    #[test]
    fn options_follow_the_words_of_remedies() {
        let error = Budget::gpu(100 << 20, 200 << 20, 0.5).hold("weights", 60 << 20).unwrap_err();
        insta::assert_snapshot!(with_options(&error, error.remedies()), @"weights needs 60.0 MiB, and 50.0 MiB are left of the budget (50 % of the 100.0 MiB that were free; 200.0 MiB in all); a smaller context (-c), fewer layers on the GPU (--gpu-layers), a smaller ubatch (--ubatch), a larger memory fraction (--memory-fraction) or a smaller file would fit");
    }

    #[test]
    fn a_context_of_the_trained_size_is_not_to_be_larger() {
        let error = ModelError::ContextFull { wanted: 512, n_ctx: 512, n_ctx_train: 512 };
        insta::assert_snapshot!(with_options(&error, error.remedies()), @"the context is full: 512 tokens do not fit a context of 512, and the model was trained for 512; give a shorter prompt, or for an answer a context shift (--context-shift)");
    }

    /// The errors that have remedies. Every remedy belongs to at least one of them.
    #[test]
    fn messages_have_the_words_of_their_remedies() {
        let model = |error: ModelError| (error.to_string(), error.remedies());
        let budget = |budget: Budget| {
            let mut budget = budget;
            model(ExecError::from(budget.hold("weights", 200).unwrap_err()).into())
        };
        let gpu = |code| model(ExecError::Gpu { what: "x".into(), error: HipError::new("hip", code) }.into());
        let (template, magic) = (TemplateError::Missing, BaseError::Magic);
        let few = ChunksError::TooFewTokens { n_tokens: 3, n_ctx: 2 };
        let (name, from, to) = (String::from("x"), DType::Q4_0, DType::Q8_0);
        let requantize = QuantizeError::Requantize { name, from, to };
        let errors = [
            budget(Budget::new(100, 100, 1.0)),
            budget(Budget::gpu(100, 100, 1.0)),
            gpu(2),
            gpu(101),
            model(ModelError::Exec(ExecError::Timeout {
                plan: "y".into(),
                seconds: Duration::from_secs(3).as_secs(),
                progress: "nothing finished".into(),
                versions: "runtime 7".into(),
            })),
            model(ModelError::Context { n_ctx: 3, n_sequences: 1, most: 2 }),
            model(ModelError::Positions { n_ctx: 3, n_positions: 2 }),
            model(ModelError::ContextFull { wanted: 3, n_ctx: 2, n_ctx_train: 4 }),
            model(ModelError::ContextFull { wanted: 3, n_ctx: 2, n_ctx_train: 2 }),
            model(ProbeError::Nothing("x".into()).into()),
            model(ModelError::ShiftKeepsAll { keep: 3, n_ctx: 2 }),
            model(ModelError::CacheFull { needed: 64, free: 32, total: 96 }),
            model(ModelError::CacheType { dtype: DType::Q6_K }),
            model(ModelError::EmptyUbatch),
            model(ModelError::Pooling { key: "x.pooling_type".into(), value: 7 }),
            (template.to_string(), template.remedies()),
            model(TemplateError::Endless { steps: 1 }.into()),
            model(TemplateError::TooLarge { bytes: 1 }.into()),
            model(TemplateError::Dropped { role: "user".into(), index: 0, excerpt: "x".into() }.into()),
            model(TemplateError::Syntax { line: 1, reason: "x".into() }.into()),
            model(TemplateError::Failed { line: 1, reason: "x".into() }.into()),
            (magic.to_string(), magic.remedies()),
            (few.to_string(), few.remedies()),
            (requantize.to_string(), requantize.remedies()),
        ];
        for (message, remedies) in &errors {
            assert!(!remedies.is_empty(), "{message}");
            let shown = with_options(message, remedies);
            for &remedy in *remedies {
                assert!(
                    shown.contains(&format!("{remedy} ({})", option(remedy))),
                    "{shown} lacks {remedy:?}"
                );
            }
        }
        for remedy in Remedy::ALL {
            assert!(errors.iter().any(|(_, remedies)| remedies.contains(&remedy)), "{remedy:?} has no error");
        }
    }
}
