//! The table of samplers, and what each of its lines becomes.

/// A line is a module, which is also the name of the field of `SamplerParams`, and the type of its settings, which is also
/// the name of the [`Stage`](super::Stage). The lines stand in the order in which the stages act by default.
macro_rules! samplers {
    ($($module:ident: $Settings:ident,)*) => {
        $(pub use $module::$Settings;)*

        /// A step of sampling, by its name. Each looks at the candidates that the steps before it left.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Stage {
            $(
                #[doc = concat!("The stage of the settings [`", stringify!($Settings), "`].")]
                $Settings,
            )*
        }

        impl Stage {
            /// All stages, in the order in which they act by default: llama.cpp's.
            pub const ORDER: &'static [Stage] = &[$(Stage::$Settings),*];

            /// The stage's name, as llama.cpp spells it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Stage::$Settings => <$Settings as stage::Settings>::name(),)*
                }
            }

            /// Other spellings of its name.
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
            /// The stages that act, in their order. One that is left out does not act.
            pub order: Vec<Stage>,
            /// Added to the logits of tokens before all stages; −∞ rules a token out.
            pub logit_bias: Vec<(u32, f32)>,
            $(
                #[doc = concat!("The settings of [`Stage::", stringify!($Settings), "`].")]
                pub $module: $Settings,
            )*
            /// The fewest tokens that typical, top-p, min-p and XTC leave, if there are so many.
            pub min_keep: usize,
            /// Mirostat in place of all stages but temperature.
            pub mirostat: Option<Mirostat>,
            /// The same seed gives the same choices.
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

            /// The parameters of all stages, with their values to read and to set.
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
