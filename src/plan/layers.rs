//! Layers of steps, derived from names.

use super::data::Plan;

impl Plan {
    /// The layer of each step, from the beginning of its name: `blk.3` for `blk.3.attn_q`. A step without a layer in
    /// its name gets the layer of the steps around it, if those agree.
    pub fn layers(&self) -> Vec<Option<&str>> {
        let named: Vec<Option<&str>> = self.steps.iter().map(|step| layer_of(&step.name)).collect();
        let mut after: Vec<Option<&str>> = named.clone();
        for i in (1..after.len()).rev() {
            after[i - 1] = after[i - 1].or(after[i]);
        }
        let mut before = None;
        let one = named.iter().zip(after).map(|(named, after)| {
            before = named.or(before);
            named.or(before.filter(|_| before == after))
        });
        one.collect()
    }
}

/// A name up to and including its first numeric part that is not the last part.
fn layer_of(name: &str) -> Option<&str> {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        let is_first = end == part.len();
        if !is_first && end < name.len() && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
        {
            return name.get(..end);
        }
        end += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::layer_of;

    #[test]
    fn a_layer_is_a_number_inside_a_name() {
        assert_eq!(layer_of("blk.31.attn_q"), Some("blk.31"));
        assert_eq!(layer_of("model.layers.4.mlp.up"), Some("model.layers.4"));
        for none in ["attention.156", "output_norm", "3.x", "blk..x", "", "."] {
            assert_eq!(layer_of(none), None, "{none}");
        }
    }
}
