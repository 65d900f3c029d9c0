//! The table of samplers and its expansion.

/// A line has a module, also the name of the field of `SamplerParams`, and its settings type, also the name of the
/// [`Stage`](super::Stage). The order of the lines is the default order of the stages.
macro_rules! samplers {
    ($($module:ident: $Settings:ident,)*) => {
        $(pub use $module::$Settings;)*

        /// The name of a sampling stage. Each stage works on the candidates that the stages before it kept.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Stage {
            $(
                #[doc = concat!("The stage of the settings [`", stringify!($Settings), "`].")]
                $Settings,
            )*
        }

        impl Stage {
            /// All stages in default order, which is llama.cpp's.
            pub const ORDER: &'static [Stage] = &[$(Stage::$Settings),*];

            /// The stage's name, as llama.cpp spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Stage::$Settings => <$Settings as stage::Settings>::name(),)*
                }
            }

            /// Alternative spellings of the name.
            fn aliases(self) -> &'static [&'static str] {
                match self {
                    $(Stage::$Settings => <$Settings as stage::Settings>::aliases(),)*
                }
            }
        }

        /// The settings of a [`Sampler`]. Meanings and defaults are llama.cpp's.
        ///
        /// By default temperature is 0.8, top-k 40, top-p 0.95, min-p 0.05; all else is off; the seed is 0.
        #[derive(Clone, Debug, PartialEq)]
        pub struct SamplerParams {
            /// The stages that act, in order. A stage that is not listed does not act.
            pub order: Vec<Stage>,
            /// Added to the logits of these tokens before all stages; −∞ rules a token out.
            pub logit_bias: Vec<(u32, f32)>,
            $(
                #[doc = concat!("The settings of [`Stage::", stringify!($Settings), "`].")]
                pub $module: $Settings,
            )*
            /// Typical, top-p, min-p and XTC keep at least this many tokens, if there are so many.
            pub min_keep: usize,
            /// Mirostat in place of all stages but temperature.
            pub mirostat: Option<Mirostat>,
            /// Seed of the random numbers.
            pub seed: u64,
        }

        impl Default for SamplerParams {
            fn default() -> SamplerParams {
                SamplerParams {
                    order: Stage::ORDER.to_vec(),
                    logit_bias: Vec::new(),
                    $($module: $Settings::default(),)*
                    min_keep: 0,
                    mirostat: None,
                    seed: 0,
                }
            }
        }

        impl SamplerParams {
            /// The settings of a stage.
            fn stage(&self, stage: Stage) -> &dyn stage::Settings {
                match stage {
                    $(Stage::$Settings => &self.$module,)*
                }
            }

            /// The parameters of all stages, with access to their values.
            pub fn parameters(&mut self) -> Vec<Parameter<'_>> {
                let mut all = Vec::new();
                $(all.extend(stage::Settings::parameters(&mut self.$module));)*
                all
            }

            /// Settings under which every stage acts.
            #[cfg(test)]
            fn strategy() -> proptest::strategy::BoxedStrategy<SamplerParams> {
                use proptest::strategy::{Just, Strategy};
                let params = Just(SamplerParams::default()).boxed();
                $(
                    let both = (params, <$Settings as stage::Settings>::strategy());
                    let set = |(params, $module)| SamplerParams { $module, ..params };
                    let params = both.prop_map(set).boxed();
                )*
                params
            }
        }
    };
}

pub(super) use samplers;
