//! The markers of parts between two markers, by model family.

/// The meaning of the part between two markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkerRole {
    /// The model's thoughts.
    Thoughts,
    /// Calls of tools.
    ToolCall,
    /// The text of the answer: the markers themselves are left out.
    Text,
}

/// A pair of markers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerMarkers {
    /// The marker before the part.
    pub open: &'static str,
    /// The marker after it; none if the part goes on to the next one, or to the answer's end.
    pub close: Option<&'static str>,
    /// The part's meaning.
    pub role: MarkerRole,
    /// Models that use the markers.
    pub models: &'static str,
}

impl AnswerMarkers {
    /// The texts of the markers.
    pub(in crate::text) fn texts(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.open).chain(self.close)
    }
}

const fn thoughts(open: &'static str, close: &'static str, models: &'static str) -> AnswerMarkers {
    AnswerMarkers { open, close: Some(close), role: MarkerRole::Thoughts, models }
}

const fn call(open: &'static str, close: &'static str, models: &'static str) -> AnswerMarkers {
    AnswerMarkers { open, close: Some(close), role: MarkerRole::ToolCall, models }
}

const fn open_call(open: &'static str, models: &'static str) -> AnswerMarkers {
    AnswerMarkers { open, close: None, role: MarkerRole::ToolCall, models }
}

const fn text(open: &'static str, close: &'static str, models: &'static str) -> AnswerMarkers {
    AnswerMarkers { open, close: Some(close), role: MarkerRole::Text, models }
}

/// All pairs of markers, read from the chat templates of the models. A pair counts for a model if its template has
/// both markers, or its vocabulary has them as special tokens.
pub const ANSWER_MARKERS: &[AnswerMarkers] = &[
    thoughts("<think>", "</think>", "DeepSeek R1, Qwen 3, GLM 4.5, Nemotron, MiniMax M2 and many others"),
    thoughts("<think:opensource>", "</think:opensource>", "Hunyuan 3"),
    thoughts("<thinking>", "</thinking>", "Apriel 1.5"),
    thoughts("<thought>", "</thought>", "EXAONE Deep"),
    thoughts("<seed:think>", "</seed:think>", "Seed-OSS"),
    thoughts("<mm:think>", "</mm:think>", "MiniMax M3"),
    thoughts("[THINK]", "[/THINK]", "Magistral, Ministral 3"),
    thoughts("<|START_THINKING|>", "<|END_THINKING|>", "Command A Reasoning, Command R7B"),
    thoughts("<|channel>thought", "<channel|>", "Gemma 4"),
    thoughts("<|inner_prefix|>", "<|inner_suffix|>", "Apertus"),
    thoughts("<|think|>", "<|end|>", "Solar Open"),
    thoughts("<|open|>think<|sep|>", "<|close|>think<|sep|>", "Kimi K3"),
    thoughts("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "Apriel 1.6"),
    text("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]", "Apriel"),
    text("<response>", "</response>", "Granite 3.3"),
    text("<|START_RESPONSE|>", "<|END_RESPONSE|>", "Command R7B"),
    text("<|START_TEXT|>", "<|END_TEXT|>", "Command A"),
    text("<|begin|>assistant<|content|>", "<|end|>", "Solar Open"),
    text("<|content|>", "<|end|>", "Solar Open"),
    text("<|open|>response<|sep|>", "<|close|>response<|sep|>", "Kimi K3"),
    // The end of the whole answer, which shows nothing.
    text("<|close|>message<|sep|>", "<|end_of_msg|>", "Kimi K3"),
    call("<tool_call>", "</tool_call>", "Hermes, Qwen, GLM 4.5, Granite 4, Nemotron 3"),
    call("<tool_calls>", "</tool_calls>", "MiniMax M1, Apriel"),
    call("<seed:tool_call>", "</seed:tool_call>", "Seed-OSS"),
    call("<minimax:tool_call>", "</minimax:tool_call>", "MiniMax M2"),
    call("<TOOLCALL>", "</TOOLCALL>", "Nemotron Nano 2"),
    call("<|START_ACTION|>", "<|END_ACTION|>", "Command R7B, Command A"),
    call("<|tool_call>", "<tool_call|>", "Gemma 4"),
    call("<|tools_prefix|>", "<|tools_suffix|>", "Apertus"),
    call("<|tool_call_start|>", "<|tool_call_end|>", "LFM2"),
    call("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "Kimi K2"),
    call("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "DeepSeek V3, R1"),
    call("<｜DSML｜function_calls>", "</｜DSML｜function_calls>", "DeepSeek V3.2"),
    call("<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>", "DeepSeek V4"),
    call("<|open|>tools<|sep|>", "<|close|>tools<|sep|>", "Kimi K3"),
    call("]<]minimax[>[<tool_call>", "]<]minimax[>[</tool_call>", "MiniMax M3"),
    call("<tool_calls:opensource>", "</tool_calls:opensource>", "Hunyuan 3"),
    open_call("<|message_sep|>\n\nfunction call<|role_sep|>", "GigaChat 3"),
    open_call("<|python_tag|>", "Llama 3"),
    open_call("[TOOL_CALLS]", "Mistral"),
    open_call("<|tool_calls|>", "Solar Open"),
    open_call("<|tool_call|>", "Granite 3"),
    open_call("<|function_call|>", "GigaChat 3.1"),
];
