//! The dtype of each tensor in a mix.
//!
//! A *mix* is a dtype for most tensors and better dtypes for those that suffer most from rounding: the output matrix,
//! the values of the attention, and the down projections of the first and last layers. The mixes are those that
//! llama.cpp's users know by the same names, so that a file has the size and quality that they expect. Source of the
//! rules: llama.cpp's `llama-quant.cpp`, read for its decisions without an importance matrix.

use super::QuantizeError;
use crate::gguf::{Gguf, Metadata, TensorInfo};
use crate::tensor::DType;

/// A named mix of dtypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix(&'static Row);

/// One row of the table of mixes.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: &'static str,
    file_type: u32,
    base: DType,
    attn_v: Rule,
    ffn_down: Rule,
    attn_output: Rule,
}

/// The rule for the dtype of some tensors of a mix, in place of its base dtype. Layers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Base,
    /// All tensors.
    All(DType),
    /// The first dtype for all tensors if four or more heads share keys and values, and otherwise the second.
    Shared(DType, DType),
    /// The first dtype for the first layers, this many, and otherwise the second.
    First(usize, DType, DType),
    /// The first dtype for the first `1 / n` of the layers, and otherwise the second.
    FirstPart(usize, DType, DType),
    /// The first and last eighth of the layers and every third between.
    Spread(DType),
    /// The first dtype for the first `1 / n` of the layers; the second for the other layers of `Spread`.
    FirstSpread(usize, DType, DType),
}

use DType::{
    BF16, F16, F32, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0,
};
use Rule::{All, Base, First, FirstPart, FirstSpread, Shared, Spread};

const fn row(
    name: &'static str,
    file_type: u32,
    base: DType,
    attn_v: Rule,
    ffn_down: Rule,
    attn_output: Rule,
) -> Row {
    Row { name, file_type, base, attn_v, ffn_down, attn_output }
}

/// The number of the mix with MXFP4 for experts and Q8_0 for the rest.
const MXFP4_MOE: u32 = 38;

/// Name, `general.file_type`, base dtype; the dtypes of the attention's values, of the feed-forward layer's down
/// projection, of the attention's output.
const TABLE: [Row; 20] = [
    row("F32", 0, F32, Base, Base, Base),
    row("F16", 1, F16, Base, Base, Base),
    row("BF16", 32, BF16, Base, Base, Base),
    row("Q8_0", 7, Q8_0, Base, Base, Base),
    row("Q6_K", 18, Q6_K, Base, Base, Base),
    row("Q5_K_M", 17, Q5_K, Spread(Q6_K), Spread(Q6_K), Base),
    row("Q5_K_S", 16, Q5_K, Base, Base, Base),
    row("Q5_1", 9, Q5_1, Base, Base, Base),
    row("Q5_0", 8, Q5_0, Base, Base, Base),
    row("Q4_K_M", 15, Q4_K, Spread(Q6_K), Spread(Q6_K), Base),
    row("Q4_K_S", 14, Q4_K, First(4, Q5_K, Q4_K), FirstPart(8, Q5_K, Q4_K), Base),
    row("Q4_1", 3, Q4_1, Base, Base, Base),
    row("Q4_0", 2, Q4_0, Base, Base, Base),
    row("IQ4_NL", 25, IQ4_NL, Shared(Q5_K, IQ4_NL), FirstPart(8, Q5_K, IQ4_NL), Base),
    row("IQ4_XS", 30, IQ4_XS, Shared(Q5_K, IQ4_XS), FirstPart(8, Q5_K, IQ4_XS), Base),
    row("Q3_K_L", 13, Q3_K, All(Q5_K), All(Q5_K), All(Q5_K)),
    row("Q3_K_M", 12, Q3_K, First(2, Q5_K, Q4_K), FirstPart(16, Q5_K, Q4_K), All(Q4_K)),
    row("Q3_K_S", 11, Q3_K, Base, Base, Base),
    row("Q2_K", 10, Q2_K, Shared(Q4_K, Q3_K), All(Q3_K), All(Q3_K)),
    row("MXFP4_MOE", MXFP4_MOE, Q8_0, Base, Base, Base),
];

/// Short names of mixes.
const ALIASES: [(&str, &str); 3] = [("Q3_K", "Q3_K_M"), ("Q4_K", "Q4_K_M"), ("Q5_K", "Q5_K_M")];

impl Mix {
    /// Every mix, from the most to the fewest bits.
    pub fn all() -> impl Iterator<Item = Mix> {
        TABLE.iter().map(Mix)
    }

    /// The mix of a name, in upper or lower case; `Q4_K` means `Q4_K_M`, and so on.
    pub fn from_name(name: &str) -> Option<Mix> {
        let alias = ALIASES.iter().find(|(short, _)| short.eq_ignore_ascii_case(name));
        let name = alias.map_or(name, |(_, long)| long);
        Mix::all().find(|mix| mix.0.name.eq_ignore_ascii_case(name))
    }

    /// The name of the mix.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The type of most tensors.
    pub fn base(self) -> DType {
        self.0.base
    }

    /// The mix's number in `general.file_type`.
    pub fn file_type(self) -> u32 {
        self.0.file_type
    }
}

/// A mix with the user's exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// The mix.
    pub mix: Mix,
    /// The dtype of the output matrix in place of the mix's, also if it is the token embeddings.
    pub output_type: Option<DType>,
    /// The dtype of the token embeddings in place of the mix's.
    pub embedding_type: Option<DType>,
    /// The base dtype for every tensor.
    pub pure: bool,
}

/// The role of a tensor in a model, as far as the rules distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Output,
    Embedding,
    AttnV,
    AttnK,
    AttnOutput,
    FfnDown,
    Other,
}

/// Parts of names that determine a tensor's role. The first match counts.
const ROLES: [(&str, Role); 6] = [
    ("attn_qkv.weight", Role::AttnV),
    ("attn_kv_b.weight", Role::AttnV),
    ("attn_v.weight", Role::AttnV),
    ("attn_k.weight", Role::AttnK),
    ("attn_output.weight", Role::AttnOutput),
    ("ffn_down", Role::FfnDown),
];

/// Parts of the names of matrices that keep their dtype: small matrices, and those with a large influence.
const KEPT: [&str; 23] = [
    "_norm.weight",
    // Routers of experts.
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    // Positions and token types.
    "position_embd",
    "token_types.weight",
    "attn_rel_b.weight",
    "sam.pos_embd",
    ".rel_pos",
    // Small matrices of single architectures.
    "altup",
    "laurel",
    "per_layer_model_proj",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    // Convolutions and mixing weights of recurrent layers.
    "ssm_conv1d",
    "shortconv.conv.weight",
    "time_mix_first.weight",
    "time_mix_lerp_fused.weight",
    // Images and sound.
    "sam.neck.",
    "sam.net_",
    ".patch_embd",
    ".patch_merger",
    "a.rvq.codebook",
    "mm.a.code_embd",
];

/// The suffixes after `time_mix_` in the names of small matrices of RWKV.
const TIME_MIX: [&str; 13] =
    ["w0", "w1", "w2", "v0", "v1", "v2", "a0", "a1", "a2", "g1", "g2", "decay_w1", "decay_w2"];

fn keeps_its_type(name: &str) -> bool {
    let small = |rest: &str| TIME_MIX.iter().any(|part| rest.strip_prefix(part) == Some(".weight"));
    KEPT.iter().any(|part| name.contains(part)) || name.split("time_mix_").skip(1).any(small)
}

fn role(name: &str) -> Role {
    match name {
        "output.weight" => Role::Output,
        "token_embd.weight" | "per_layer_token_embd.weight" => Role::Embedding,
        _ => ROLES.iter().find(|(part, _)| name.contains(part)).map_or(Role::Other, |(_, role)| *role),
    }
}

/// A mix has a rule for the tensor.
fn is_matrix(info: &TensorInfo) -> bool {
    // Trailing dimensions of size 1 do not make a matrix.
    let rank = info.shape.sizes().iter().rposition(|&n| n > 1).map_or(0, |last| last + 1);
    rank >= 2 && info.dtype.is_float() && info.name.ends_with("weight") && !keeps_its_type(&info.name)
}

/// The properties of a model that the rules use.
struct Facts {
    falcon: bool,
    n_layer: usize,
    /// Matrices that compute the attention's values.
    n_attn_v: usize,
    n_expert: usize,
    /// Heads that share keys and values.
    n_gqa: usize,
    /// The token embeddings are also the output matrix.
    tied: bool,
    /// Eighty layers whose heads share keys and values, as in the largest Llamas and Qwens.
    large: bool,
}

impl Facts {
    fn of(gguf: &Gguf) -> Result<Facts, QuantizeError> {
        let metadata = gguf.metadata();
        let architecture = metadata.opt_str("general.architecture").ok().flatten().unwrap_or_default();
        let number = |key: &str| first_number(metadata, &format!("{architecture}.{key}"));
        let n_head = number("attention.head_count").unwrap_or(0);
        let n_head_kv = number("attention.head_count_kv").unwrap_or(n_head);
        let given = number("block_count");
        if let Some(n_layer) = given {
            check_layers(gguf, format!("{architecture}.block_count"), n_layer)?;
        }
        let n_layer = given.unwrap_or(0);
        let attn_v = gguf.tensors().iter().filter(|info| role(&info.name) == Role::AttnV);
        let eighty = n_layer == 80 && ["llama", "qwen2", "deci", "olmo"].contains(&architecture);
        Ok(Facts {
            falcon: architecture == "falcon",
            n_layer,
            n_attn_v: attn_v.count(),
            n_expert: number("expert_count").unwrap_or(0),
            n_gqa: n_head.checked_div(n_head_kv).unwrap_or(0),
            tied: gguf.tensor("output.weight").is_none(),
            large: eighty && (architecture != "llama" || n_head != n_head_kv),
        })
    }
}

/// The limit for the number of layers; real models have less than a fifth of it.
const MAX_LAYERS: usize = 1000;

/// Refuses an absurd number of layers, and tensors of layers beyond that number.
fn check_layers(gguf: &Gguf, key: String, n_layer: usize) -> Result<(), QuantizeError> {
    if n_layer > MAX_LAYERS {
        return Err(QuantizeError::LayerCount { key, n_layer, most: MAX_LAYERS });
    }
    for info in gguf.tensors() {
        if let Some(layer) = layer(&info.name).filter(|&layer| layer >= n_layer) {
            return Err(QuantizeError::Layer { name: info.name.clone(), layer, key, n_layer });
        }
    }
    Ok(())
}

/// A number of the metadata, or the first number of an array.
fn first_number(metadata: &Metadata, key: &str) -> Option<usize> {
    let number = metadata.opt_u64(key).ok().flatten();
    let array = || metadata.opt_u32s(key).ok().flatten().and_then(|all| all.first().map(|&n| n.into()));
    usize::try_from(number.or_else(array)?).ok()
}

/// The layer in a tensor's name: `blk.7.attn_v.weight` is in layer 7.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// The dtype of each tensor of a file, in the file's order.
pub(super) fn types(gguf: &Gguf, recipe: &Recipe) -> Result<Vec<DType>, QuantizeError> {
    let facts = Facts::of(gguf)?;
    let ranks = ranks(gguf);
    let typed = |(info, rank): (&TensorInfo, usize)| {
        if is_matrix(info) { recipe.of_matrix(info, rank, &facts) } else { info.dtype }
    };
    Ok(gguf.tensors().iter().zip(ranks).map(typed).collect())
}

/// For each tensor, the number of tensors of the same role in earlier layers. The rules use it as the layer's number,
/// since not every layer of every model has all tensors.
fn ranks(gguf: &Gguf) -> Vec<usize> {
    let tensors = gguf.tensors();
    let mut order: Vec<usize> = (0..tensors.len()).filter(|&i| is_matrix(&tensors[i])).collect();
    order.sort_by_key(|&i| (layer(&tensors[i].name), &tensors[i].name));
    let mut ranks = vec![0; tensors.len()];
    for counted in [Role::AttnV, Role::FfnDown] {
        let of_role = order.iter().filter(|&&i| role(&tensors[i].name) == counted);
        of_role.enumerate().for_each(|(rank, &i)| ranks[i] = rank);
    }
    ranks
}

impl Recipe {
    fn of_matrix(&self, info: &TensorInfo, rank: usize, facts: &Facts) -> DType {
        let role = role(&info.name);
        let is_output = role == Role::Output || (role == Role::Embedding && facts.tied);
        let given = match role {
            Role::Embedding => self.embedding_type.or(self.output_type.filter(|_| is_output)),
            Role::Output => self.output_type,
            _ => None,
        };
        let base = self.mix.base();
        let mixed = || {
            if self.pure || base.is_plain() { base } else { self.mixed(info, role, is_output, rank, facts) }
        };
        fitting(given.unwrap_or_else(mixed), info.shape.sizes()[0])
    }

    /// The dtype by the mix alone.
    fn mixed(&self, info: &TensorInfo, role: Role, is_output: bool, rank: usize, facts: &Facts) -> DType {
        let Row { base, file_type, attn_v, ffn_down, attn_output, .. } = *self.mix.0;
        let row = info.shape.sizes()[0];
        if file_type == MXFP4_MOE {
            let experts = info.shape.sizes().get(2).is_some_and(|&n| n > 1);
            return if experts && !is_output { MXFP4 } else { base };
        }
        if is_output {
            let coarse = base == Q8_0 || facts.falcon || !row.is_multiple_of(base.block_elements());
            return if coarse { Q8_0 } else { Q6_K };
        }
        // Experts of one layer are several tensors, so that their rank is not the layer.
        let position = if facts.n_expert > 1 { layer(&info.name).unwrap_or(rank) } else { rank };
        match role {
            Role::AttnV | Role::AttnK if facts.n_expert == 8 => Q8_0,
            Role::AttnV => {
                let dtype = attn_v.apply(base, rank, facts.n_attn_v, facts);
                if facts.large && matches!(dtype, Q3_K | Q4_K) { Q5_K } else { dtype }
            }
            Role::FfnDown => {
                let falcon = FALCON_DOWN.iter().find(|(name, _)| facts.falcon && *name == self.mix.name());
                let rule = falcon.map_or(ffn_down, |(_, rule)| *rule);
                rule.apply(base, position, facts.n_layer, facts)
            }
            Role::AttnOutput if facts.falcon && self.mix.name() == "Q3_K_L" => Q4_K,
            Role::AttnOutput if facts.falcon => base,
            Role::AttnOutput if facts.n_expert == 8 => {
                let few_bits = matches!(base, Q2_K | Q3_K | Q4_K | IQ4_NL | IQ4_XS);
                if few_bits && self.mix.name() != "Q3_K_L" { Q5_K } else { base }
            }
            Role::AttnOutput => attn_output.apply(base, rank, facts.n_layer, facts),
            _ => base,
        }
    }
}

/// Rules for the down projections of Falcon that differ.
const FALCON_DOWN: [(&str, Rule); 4] = [
    ("Q4_K_M", FirstSpread(16, Q6_K, Q5_K)),
    ("Q4_K_S", Base),
    ("Q3_K_L", All(Q4_K)),
    ("Q3_K_M", FirstSpread(16, Q5_K, Q4_K)),
];

impl Rule {
    /// The dtype in layer `i` of `n`.
    fn apply(self, base: DType, i: usize, n: usize, facts: &Facts) -> DType {
        let spread = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        match self {
            Base => base,
            All(dtype) => dtype,
            Shared(shared, alone) => {
                if facts.n_gqa >= 4 {
                    shared
                } else {
                    alone
                }
            }
            First(first, dtype, later) => {
                if i < first {
                    dtype
                } else {
                    later
                }
            }
            FirstPart(part, dtype, later) => {
                if i < n / part {
                    dtype
                } else {
                    later
                }
            }
            Spread(dtype) => {
                if spread {
                    dtype
                } else {
                    base
                }
            }
            FirstSpread(part, dtype, _) if i < n / part => dtype,
            FirstSpread(_, _, dtype) => {
                if spread {
                    dtype
                } else {
                    base
                }
            }
        }
    }
}

/// The dtype for rows of `row` values: if they do not fill whole blocks, one with smaller blocks and at least as many
/// bits, or F16 if they do not fill any block.
fn fitting(dtype: DType, row: usize) -> DType {
    let fits = |dtype: DType| row.is_multiple_of(dtype.block_elements());
    let smaller = match dtype {
        Q2_K | Q3_K => Q4_0,
        IQ4_XS => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        other => other,
    };
    [dtype, smaller].into_iter().find(|&dtype| fits(dtype)).unwrap_or(F16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::GgufWriter;

    /// A file of matrices of 256 columns: `layers` layers, some metadata, and tensors with the names `more`.
    fn file(architecture: &str, layers: usize, numbers: &[(&str, u32)], more: &[&str]) -> Gguf {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", architecture).unwrap();
        writer.set(&format!("{architecture}.block_count"), layers as u32).unwrap();
        for (key, number) in numbers {
            writer.set(&format!("{architecture}.{key}"), *number).unwrap();
        }
        let parts = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down", "attn_norm"];
        let of_layer = |i| parts.map(|part| format!("blk.{i}.{part}.weight"));
        let names = (0..layers).flat_map(of_layer).chain(more.iter().map(|name| name.to_string()));
        for name in names {
            let shape = if name.contains("norm") { vec![256] } else { vec![256, 2] };
            let shape = crate::tensor::Shape::new(&shape).unwrap();
            writer.tensor(&name, F16, shape, vec![0; 2 * shape.elements()]).unwrap();
        }
        let mut bytes = Vec::new();
        writer.write(&mut bytes).unwrap();
        Gguf::from_bytes(bytes).unwrap()
    }

    fn recipe(mix: &str) -> Recipe {
        let mix = Mix::from_name(mix).unwrap();
        Recipe { mix, output_type: None, embedding_type: None, pure: false }
    }

    fn type_of(gguf: &Gguf, recipe: &Recipe, name: &str) -> DType {
        let at = gguf.tensors().iter().position(|info| info.name == name).unwrap();
        types(gguf, recipe).unwrap()[at]
    }

    /// The layers in which `part` has this dtype.
    fn layers_of(gguf: &Gguf, mix: &str, part: &str, dtype: DType) -> Vec<usize> {
        let is = |i: &usize| type_of(gguf, &recipe(mix), &format!("blk.{i}.{part}.weight")) == dtype;
        (0..32).filter(is).collect()
    }

    #[test]
    fn mix_names_ignore_case_and_have_aliases() {
        assert_eq!(Mix::from_name("q4_k").unwrap().name(), "Q4_K_M");
        assert_eq!(Mix::from_name("iq4_xs").unwrap().file_type(), 30);
        assert!(Mix::from_name("Q7_K").is_none());
        for (i, mix) in Mix::all().enumerate() {
            assert_eq!(Mix::from_name(mix.name()), Some(mix));
            assert!(
                Mix::all().skip(i + 1).all(|other| other.file_type() != mix.file_type()),
                "{}",
                mix.name()
            );
        }
    }

    #[test]
    fn absurd_layers_are_refused_by_name() {
        let beyond = file("llama", 2, &[], &["blk.2.ffn_down.weight"]);
        let error = types(&beyond, &recipe("Q4_K_M")).unwrap_err().to_string();
        assert_eq!(error, "tensor blk.2.ffn_down.weight is of layer 2, but llama.block_count is 2");
        for absurd in [1001, u64::from(u32::MAX), u64::MAX] {
            let mut writer = GgufWriter::new();
            writer.set("general.architecture", "llama").unwrap().set("llama.block_count", absurd).unwrap();
            writer.tensor("blk.0.ffn_down.weight", F16, [256, 2], vec![0; 1024]).unwrap();
            let mut bytes = Vec::new();
            writer.write(&mut bytes).unwrap();
            let error = types(&Gguf::from_bytes(bytes).unwrap(), &recipe("Q4_K_M")).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("llama.block_count is {absurd}; at most 1000 layers are supported")
            );
        }
    }

    /// The layers with more bits in a model of 32 layers, as in published files.
    #[test]
    fn layers_with_more_bits_match_published_files() {
        let gguf = file(
            "llama",
            32,
            &[("attention.head_count", 8), ("attention.head_count_kv", 8)],
            &["output.weight"],
        );
        let spread = vec![0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31];
        for part in ["attn_v", "ffn_down"] {
            assert_eq!(layers_of(&gguf, "Q4_K_M", part, Q6_K), spread, "{part}");
            assert_eq!(layers_of(&gguf, "Q5_K_M", part, Q6_K), spread, "{part}");
        }
        assert_eq!(layers_of(&gguf, "Q4_K_S", "attn_v", Q5_K), [0, 1, 2, 3]);
        assert_eq!(layers_of(&gguf, "Q4_K_S", "ffn_down", Q5_K), [0, 1, 2, 3]);
        assert_eq!(layers_of(&gguf, "Q3_K_M", "attn_v", Q5_K), [0, 1]);
        assert_eq!(layers_of(&gguf, "Q3_K_M", "ffn_down", Q5_K), [0, 1]);
        assert_eq!(layers_of(&gguf, "Q3_K_M", "attn_output", Q4_K).len(), 32);
        assert_eq!(layers_of(&gguf, "Q2_K", "attn_v", Q3_K).len(), 32);
        assert_eq!(layers_of(&gguf, "IQ4_XS", "ffn_down", Q5_K), [0, 1, 2, 3]);
        for mix in Mix::all().map(Mix::name).filter(|mix| *mix != "F32") {
            assert_eq!(layers_of(&gguf, mix, "attn_norm", F16).len(), 32, "{mix}: vectors keep their type");
        }
    }

    #[test]
    fn shared_heads_experts_and_falcon_have_their_own_rules() {
        let shared = [("attention.head_count", 32), ("attention.head_count_kv", 8)];
        let gguf = file("llama", 32, &shared, &[]);
        assert_eq!(layers_of(&gguf, "Q2_K", "attn_v", Q4_K).len(), 32);
        assert_eq!(layers_of(&gguf, "IQ4_NL", "attn_v", Q5_K).len(), 32);
        let large = file("llama", 80, &shared, &[]);
        assert_eq!(type_of(&large, &recipe("Q4_K_M"), "blk.40.attn_v.weight"), Q5_K);
        let experts = file(
            "llama",
            32,
            &[("expert_count", 8)],
            &["blk.3.ffn_down_exps.weight", "blk.3.ffn_gate_inp.weight"],
        );
        assert_eq!(layers_of(&experts, "Q4_K_M", "attn_k", Q8_0).len(), 32);
        assert_eq!(layers_of(&experts, "Q4_K_M", "attn_output", Q5_K).len(), 32);
        assert_eq!(type_of(&experts, &recipe("Q4_K_M"), "blk.3.ffn_down_exps.weight"), Q6_K);
        assert_eq!(type_of(&experts, &recipe("Q4_K_M"), "blk.3.ffn_gate_inp.weight"), F16);
        let falcon = file("falcon", 32, &[], &["output.weight"]);
        assert_eq!(type_of(&falcon, &recipe("Q4_K_M"), "output.weight"), Q8_0);
        assert_eq!(layers_of(&falcon, "Q4_K_M", "ffn_down", Q6_K), [0, 1]);
    }

    #[test]
    fn output_and_embeddings_have_their_own_dtypes() {
        let tied = file("llama", 4, &[], &["token_embd.weight"]);
        let both = file("llama", 4, &[], &["token_embd.weight", "output.weight"]);
        assert_eq!(type_of(&tied, &recipe("Q4_0"), "token_embd.weight"), Q6_K);
        assert_eq!(type_of(&both, &recipe("Q4_0"), "token_embd.weight"), Q4_0);
        assert_eq!(type_of(&both, &recipe("Q8_0"), "output.weight"), Q8_0);
        let given = Recipe { output_type: Some(Q8_0), ..recipe("Q4_0") };
        assert_eq!(type_of(&tied, &given, "token_embd.weight"), Q8_0);
        assert_eq!(type_of(&both, &given, "token_embd.weight"), Q4_0);
        let given = Recipe { embedding_type: Some(BF16), pure: true, ..recipe("Q4_K_M") };
        assert_eq!(type_of(&both, &given, "token_embd.weight"), BF16);
        assert_eq!(type_of(&both, &given, "output.weight"), Q4_K);
        assert_eq!(type_of(&both, &given, "blk.0.attn_v.weight"), Q4_K);
    }

    #[test]
    fn rows_that_do_not_fill_blocks_get_smaller_ones() {
        for (dtype, row, fits) in [(Q4_K, 64, Q5_0), (Q5_K, 96, Q5_1), (Q6_K, 32, Q8_0), (Q2_K, 32, Q4_0)] {
            assert_eq!(fitting(dtype, row), fits);
            assert_eq!(fitting(dtype, 256), dtype);
            assert_eq!(fitting(dtype, 172), F16);
        }
        assert_eq!((fitting(IQ4_XS, 96), fitting(Q4_0, 172), fitting(F32, 7)), (IQ4_NL, F16, F32));
    }
}
