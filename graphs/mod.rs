//! Model code: one architecture per file, written against the public API only.
//!
//! A file defines an architecture in the order of the computation, with GGUF's names for tensors and metadata. A new
//! architecture needs a file and a line in the table. `decoder` and `rotary` have the parts that most architectures
//! share.

mod chatglm;
mod cohere2;
mod command_r;
mod decoder;
mod deepseek2;
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
mod llama;
mod mistral3;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen2moe;
mod qwen3;
mod qwen3moe;
mod rotary;
mod stablelm;
mod starcoder2;

pub use chatglm::ChatGlm;
pub use cohere2::Cohere2;
pub use command_r::CommandR;
pub use deepseek2::DeepSeek2;
pub use falcon::Falcon;
pub use gemma::Gemma;
pub use gemma2::Gemma2;
pub use gemma3::Gemma3;
pub use glm4::Glm4;
pub use glm4moe::Glm4Moe;
pub use gpt_oss::GptOss;
pub use gpt2::Gpt2;
pub use gptneox::GptNeoX;
pub use granite::Granite;
pub use llama::Llama;
pub use mistral3::Mistral3;
pub use olmo2::Olmo2;
pub use phi2::Phi2;
pub use phi3::Phi3;
pub use qwen2::Qwen2;
pub use qwen2moe::Qwen2Moe;
pub use qwen3::Qwen3;
pub use qwen3moe::Qwen3Moe;
pub use stablelm::StableLm;
pub use starcoder2::StarCoder2;

use crate::model::ArchitectureRow;

/// The architectures, by `general.architecture`.
pub const TABLE: &[ArchitectureRow] = &[
    ArchitectureRow { name: "chatglm", models: "ChatGLM 3, GLM 4 (9B)", read: ChatGlm::read },
    ArchitectureRow { name: "cohere2", models: "Command R7B, Command A", read: Cohere2::read },
    ArchitectureRow { name: "command-r", models: "Command R, Command R+", read: CommandR::read },
    ArchitectureRow { name: "deepseek2", models: "DeepSeek V2, V3 and R1", read: DeepSeek2::read },
    ArchitectureRow { name: "falcon", models: "Falcon 7B and 40B", read: Falcon::read },
    ArchitectureRow { name: "gemma", models: "Gemma", read: Gemma::read },
    ArchitectureRow { name: "gemma2", models: "Gemma 2", read: Gemma2::read },
    ArchitectureRow { name: "gemma3", models: "Gemma 3 (text)", read: Gemma3::read },
    ArchitectureRow { name: "glm4", models: "GLM 4 (0414)", read: Glm4::read },
    ArchitectureRow { name: "glm4moe", models: "GLM 4.5 and 4.6", read: Glm4Moe::read },
    ArchitectureRow { name: "gpt-oss", models: "gpt-oss", read: GptOss::read },
    ArchitectureRow { name: "gpt2", models: "GPT-2", read: Gpt2::read },
    ArchitectureRow { name: "gptneox", models: "GPT-NeoX, Pythia", read: GptNeoX::read },
    ArchitectureRow { name: "granite", models: "Granite 3", read: Granite::read },
    ArchitectureRow { name: "llama", models: "Llama 1 to 3, Mistral, Mixtral", read: Llama::read },
    ArchitectureRow { name: "mistral3", models: "Ministral 3, Devstral 2", read: Mistral3::read },
    ArchitectureRow { name: "olmo2", models: "OLMo 2 and 3", read: Olmo2::read },
    ArchitectureRow { name: "phi2", models: "Phi 1.5 and 2", read: Phi2::read },
    ArchitectureRow { name: "phi3", models: "Phi 3 and 4", read: Phi3::read },
    ArchitectureRow { name: "qwen2", models: "Qwen 1.5, 2 and 2.5", read: Qwen2::read },
    ArchitectureRow { name: "qwen2moe", models: "Qwen 1.5 and 2 MoE", read: Qwen2Moe::read },
    ArchitectureRow { name: "qwen3", models: "Qwen 3", read: Qwen3::read },
    ArchitectureRow { name: "qwen3moe", models: "Qwen 3 MoE", read: Qwen3Moe::read },
    ArchitectureRow { name: "stablelm", models: "StableLM 2", read: StableLm::read },
    ArchitectureRow { name: "starcoder2", models: "StarCoder 2", read: StarCoder2::read },
];
