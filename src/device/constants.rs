//! Sizes that are fixed in a kernel and that its operator relies on. Sizes that a launch chooses are constants of its
//! [`Variant`](super::Variant) or arguments, and do not belong here.

/// Defines the constants and the list of them.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: usize = $value;)*

        /// Each constant with its name.
        pub(super) const ALL: &[(&str, usize)] = &[$((stringify!($name), $name)),*];
    };
}

constants! {
    /// Threads of a block of `attention.hip`.
    ATTENTION_THREADS = 128;
    /// The most splits of a token's keys that `attention_combine.hip` combines.
    MAX_SPLITS = 128;
    /// Threads of a block of `attention_combine.hip`.
    COMBINE_THREADS = 256;
    /// Waves of a block of `attention_tiled.hip`, each with 16 tokens.
    TILED_WAVES = 4;
    /// Threads of a block of `sort.hip`.
    SORT_THREADS = 256;
    /// Threads of a block of `matmul.hip`.
    MATMUL_THREADS = 256;
    /// Rows and columns of the output that a block of `matmul_tiles` computes.
    MATMUL_TILE = 64;
    /// Threads of a block of `kv_write.hip`.
    KV_WRITE_THREADS = 256;
    /// Threads of a block of `weighted_sum`, four elements each.
    WEIGHTED_SUM_THREADS = 256;
    /// Threads of a block of `short_conv.hip`, one channel each.
    SHORT_CONV_THREADS = 256;
    /// Rows that a thread of `short_conv.hip` computes.
    SHORT_CONV_ROWS = 8;
    /// Threads of a block of `delta_rule.hip`.
    DELTA_RULE_THREADS = 128;
    /// Bytes of the `Tile` of `experts.h`.
    EXPERT_TILE_BYTES = 16;
}
