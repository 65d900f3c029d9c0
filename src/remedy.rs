//! Remedies of errors, as data.
//!
//! Every folder may use this file; it uses none. The message of an error names its remedies in words of the library,
//! since users of the library also read it. The command line adds its options after these words (`cli/remedies.rs`).

use std::fmt;

/// A change that may avoid an error. Its `Display` is the remedy's wording in the error's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// A smaller context (`SessionOptions::n_ctx`).
    SmallerContext,
    /// A larger context (`SessionOptions::n_ctx`).
    LargerContext,
    /// Dropping the oldest tokens (`ContextShift`).
    ContextShift,
    /// More tokens for all sequences together (`SessionOptions::n_tokens`).
    LargerPool,
    /// A dtype that the KV cache can have (`SessionOptions::cache_types`).
    SupportedCacheType,
    /// Fewer tokens of a prompt at once (`SessionOptions::ubatch`).
    SmallerUbatch,
    /// More tokens of a prompt at once (`SessionOptions::ubatch`).
    LargerUbatch,
    /// More layers on the CPU (`SessionOptions::gpu_layers`).
    FewerGpuLayers,
    /// A larger share of the free memory (`SessionOptions::memory_fraction`).
    LargerMemoryFraction,
    /// A longer wait for the GPU (`SessionOptions::timeout`).
    LongerTimeout,
    /// Steps that are launched one by one (`HipOptions::graphs`).
    NoReplays,
    /// Another device (`SessionOptions::device`).
    OtherDevice,
    /// A prompt that is not formatted by the model's chat template (`Tokenizer::encode`).
    PlainPrompt,
    /// A pooling of the user's choice, in place of the file's (`Session::embed`).
    ChosenPooling,
    /// A file that was written by `BaseWriter`.
    LogitsFile,
    /// Quantizing a file that is already quantized (`Quantization::new`).
    Requantizing,
}

impl Remedy {
    /// All remedies.
    pub const ALL: [Remedy; 16] = [
        Remedy::SmallerContext,
        Remedy::LargerContext,
        Remedy::ContextShift,
        Remedy::LargerPool,
        Remedy::SupportedCacheType,
        Remedy::SmallerUbatch,
        Remedy::LargerUbatch,
        Remedy::FewerGpuLayers,
        Remedy::LargerMemoryFraction,
        Remedy::LongerTimeout,
        Remedy::NoReplays,
        Remedy::OtherDevice,
        Remedy::PlainPrompt,
        Remedy::ChosenPooling,
        Remedy::LogitsFile,
        Remedy::Requantizing,
    ];
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Remedy::SmallerContext => "a smaller context",
            Remedy::LargerContext => "a larger context",
            Remedy::ContextShift => "a context shift",
            Remedy::LargerPool => "more tokens in all",
            Remedy::SupportedCacheType => "a supported cache type",
            Remedy::SmallerUbatch => "a smaller ubatch",
            Remedy::LargerUbatch => "a larger ubatch",
            Remedy::FewerGpuLayers => "fewer layers on the GPU",
            Remedy::LargerMemoryFraction => "a larger memory fraction",
            Remedy::LongerTimeout => "a longer timeout",
            Remedy::NoReplays => "replays turned off",
            Remedy::OtherDevice => "another device",
            Remedy::PlainPrompt => "a plain prompt",
            Remedy::ChosenPooling => "a chosen pooling",
            Remedy::LogitsFile => "a file of log-probabilities",
            Remedy::Requantizing => "requantizing allowed",
        })
    }
}
