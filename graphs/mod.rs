//! Model code: one architecture per file, written against the public API only.
//!
//! A file defines an architecture in the order of the computation, with GGUF's names for tensors and metadata. A new
//! architecture needs a file, and here its `mod` and its row of the table. `decoder` has the decoder that most
//! architectures are, and an architecture's file only the parts in which it differs; `common` and `sizes` have the
//! hyper-parameters that all of them have, `layer` the parts of a layer, `experts`, `rotary` and `scaling` parts that many share.

mod chatglm;
mod cohere2;
mod command_r;
mod common;
mod decoder;
mod deepseek2;
mod delta_net;
mod exaone4;
mod experts;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod glm4moe;
mod gpt2;
mod gpt_oss;
mod gptneox;
mod granite;
mod hunyuan_dense;
mod layer;
mod llama;
mod minimax_m2;
mod mistral3;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen35;
mod qwen35moe;
mod qwen3moe;
mod rotary;
mod scaling;
mod seed_oss;
mod sizes;
mod smollm3;
mod stablelm;
mod starcoder2;

use decoder::row;

use crate::model::ArchitectureRow;

/// The architectures, by `general.architecture`.
pub const TABLE: &[ArchitectureRow] = &[
    row::<chatglm::ChatGlm>("chatglm", "ChatGLM 3, GLM 4 (9B)"),
    row::<cohere2::Cohere2>("cohere2", "Command R7B, Command A"),
    row::<command_r::CommandR>("command-r", "Command R, Command R+"),
    row::<deepseek2::DeepSeek2>("deepseek2", "DeepSeek V2, V3 and R1, GLM 4.7 Flash"),
    row::<llama::Llama>("ernie4_5", "ERNIE 4.5 (dense)"),
    row::<exaone4::Exaone4>("exaone4", "EXAONE 4"),
    row::<falcon::Falcon>("falcon", "Falcon 7B and 40B"),
    row::<gemma::Gemma>("gemma", "Gemma"),
    row::<gemma2::Gemma2>("gemma2", "Gemma 2"),
    row::<gemma3::Gemma3>("gemma3", "Gemma 3 (text)"),
    row::<glm4::Glm4>("glm4", "GLM 4 (0414)"),
    row::<glm4moe::Glm4Moe>("glm4moe", "GLM 4.5 and 4.6"),
    row::<gpt_oss::GptOss>("gpt-oss", "gpt-oss"),
    row::<gpt2::Gpt2>("gpt2", "GPT-2"),
    row::<gptneox::GptNeoX>("gptneox", "GPT-NeoX, Pythia"),
    row::<granite::Granite>("granite", "Granite 3, dense models of Granite 4"),
    row::<hunyuan_dense::HunyuanDense>("hunyuan-dense", "Hunyuan (dense)"),
    row::<llama::Llama>("llama", "Llama 1 to 3, Mistral, Mixtral"),
    row::<minimax_m2::MiniMaxM2>("minimax-m2", "MiniMax M2"),
    row::<mistral3::Mistral3>("mistral3", "Ministral 3, Devstral 2"),
    row::<olmo2::Olmo2>("olmo2", "OLMo 2 and 3"),
    row::<phi2::Phi2>("phi2", "Phi 1.5 and 2"),
    row::<phi3::Phi3>("phi3", "Phi 3 and 4"),
    row::<qwen2::Qwen2>("qwen2", "Qwen 1.5, 2 and 2.5"),
    row::<qwen2moe::Qwen2Moe>("qwen2moe", "Qwen 1.5 and 2 MoE"),
    row::<qwen3::Qwen3>("qwen3", "Qwen 3"),
    row::<qwen3moe::Qwen3Moe>("qwen3moe", "Qwen 3 MoE"),
    row::<qwen35::Qwen35>("qwen35", "Qwen 3.5 to 3.8 (text)"),
    row::<qwen35moe::Qwen35Moe<false>>("qwen35moe", "Qwen 3.5 and 3.6 MoE (text)"),
    row::<qwen35moe::Qwen35Moe<true>>("qwen3next", "Qwen3-Next, Qwen3-Coder-Next"),
    row::<qwen3::Qwen3>("qwen3vl", "Qwen3-VL (text)"),
    row::<qwen3moe::Qwen3Moe>("qwen3vlmoe", "Qwen3-VL MoE (text)"),
    row::<seed_oss::SeedOss>("seed_oss", "Seed-OSS"),
    row::<smollm3::SmolLm3>("smollm3", "SmolLM3"),
    row::<stablelm::StableLm>("stablelm", "StableLM 2"),
    row::<starcoder2::StarCoder2>("starcoder2", "StarCoder 2"),
];
