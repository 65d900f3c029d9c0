//! Model code: one architecture a file, written against the public API only.
//!
//! A file here says what an architecture is, in the order of the computation, with GGUF's names for
//! tensors and metadata. Adding one takes a file and a line of the table. `decoder` and `rotary` hold what most of them
//! share.

mod chatglm;
mod cohere2;
mod command_r;
mod decoder;
mod falcon;
mod gemma;
mod gemma2;
mod gemma3;
mod glm4;
mod gpt2;
mod gptneox;
mod granite;
mod llama;
mod mistral3;
mod olmo2;
mod phi2;
mod phi3;
mod qwen2;
mod qwen3;
mod rotary;
mod stablelm;
mod starcoder2;

pub use chatglm::ChatGlm;
pub use cohere2::Cohere2;
pub use command_r::CommandR;
pub use falcon::Falcon;
pub use gemma::Gemma;
pub use gemma2::Gemma2;
pub use gemma3::Gemma3;
pub use glm4::Glm4;
pub use gpt2::Gpt2;
pub use gptneox::GptNeoX;
pub use granite::Granite;
pub use llama::Llama;
pub use mistral3::Mistral3;
pub use olmo2::Olmo2;
pub use phi2::Phi2;
pub use phi3::Phi3;
pub use qwen2::Qwen2;
pub use qwen3::Qwen3;
pub use stablelm::StableLm;
pub use starcoder2::StarCoder2;

use crate::model::ArchitectureRow;

/// The architectures, by `general.architecture`.
pub const TABLE: &[ArchitectureRow] = &[
    ArchitectureRow { name: "chatglm", read: ChatGlm::read },
    ArchitectureRow { name: "cohere2", read: Cohere2::read },
    ArchitectureRow { name: "command-r", read: CommandR::read },
    ArchitectureRow { name: "falcon", read: Falcon::read },
    ArchitectureRow { name: "gemma", read: Gemma::read },
    ArchitectureRow { name: "gemma2", read: Gemma2::read },
    ArchitectureRow { name: "gemma3", read: Gemma3::read },
    ArchitectureRow { name: "glm4", read: Glm4::read },
    ArchitectureRow { name: "gpt2", read: Gpt2::read },
    ArchitectureRow { name: "gptneox", read: GptNeoX::read },
    ArchitectureRow { name: "granite", read: Granite::read },
    ArchitectureRow { name: "llama", read: Llama::read },
    ArchitectureRow { name: "mistral3", read: Mistral3::read },
    ArchitectureRow { name: "olmo2", read: Olmo2::read },
    ArchitectureRow { name: "phi2", read: Phi2::read },
    ArchitectureRow { name: "phi3", read: Phi3::read },
    ArchitectureRow { name: "qwen2", read: Qwen2::read },
    ArchitectureRow { name: "qwen3", read: Qwen3::read },
    ArchitectureRow { name: "stablelm", read: StableLm::read },
    ArchitectureRow { name: "starcoder2", read: StarCoder2::read },
];
