//! The settings of the whole chain: their checks, and the stages that act.

use std::str::FromStr;

use super::mirostat::Mirostat;
use super::{ParamError, SamplerParams, Stage, Temperature};

impl FromStr for Stage {
    type Err = ParamError;

    fn from_str(text: &str) -> Result<Stage, ParamError> {
        let plain = text.trim().replace('-', "_");
        let is_named = |stage: &Stage| stage.name() == plain || stage.aliases().contains(&plain.as_str());
        let found = Stage::ORDER.iter().copied().find(is_named);
        found.ok_or_else(|| ParamError::UnknownStage(text.trim().to_string()))
    }
}

impl SamplerParams {
    /// Always the most probable token: temperature 0, all else default.
    pub fn greedy() -> SamplerParams {
        SamplerParams { temperature: Temperature::fixed(0.0), ..SamplerParams::default() }
    }

    /// Checks all settings that do not depend on the vocabulary.
    ///
    /// # Errors
    /// [`ParamError`] names the first wrong setting.
    pub fn check(&self) -> Result<(), ParamError> {
        // Parameters are accessible by mutable reference only.
        let mut copy = self.clone();
        copy.parameters().iter().try_for_each(|parameter| parameter.check())?;
        self.mirostat.unwrap_or_default().check()?;
        if let Some(&(_, value)) =
            self.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY)
        {
            let expected = "a finite number or -infinity";
            return Err(ParamError::OutOfRange { name: "logit_bias", value, expected });
        }
        for &stage in Stage::ORDER {
            self.stage(stage).check()?;
        }
        for (i, stage) in self.order.iter().enumerate() {
            if self.order[..i].contains(stage) {
                return Err(ParamError::RepeatedStage(stage.name()));
            }
        }
        Ok(())
    }

    /// The stages that can change the choice, in order.
    pub(super) fn active(&self) -> Vec<Stage> {
        let acts = |stage: &Stage| self.stage(*stage).acts();
        if self.mirostat.is_some() {
            return [Mirostat::STAGE].into_iter().filter(acts).collect();
        }
        let mut stages: Vec<Stage> = self.order.iter().copied().filter(acts).collect();
        if let Some(end) = stages.iter().position(|&stage| self.stage(stage).takes_largest()) {
            // A single candidate is left, which no stage drops.
            stages.truncate(end + 1);
            // Filters that always keep the most probable token do not matter if only that token is taken.
            let chooses = |&stage: &Stage| !self.stage(stage).keeps_largest();
            let needed = stages[..end].iter().rposition(chooses).map_or(0, |last| last + 1);
            stages.drain(needed..end);
        }
        stages
    }
}
