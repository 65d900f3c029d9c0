//! A plan as a self-contained HTML page.
//!
//! Markup, style and scripts of the page are the files in `page/`; this file only inserts data, so that nothing in a
//! plan is parsed as markup or code.

use std::fmt;

use serde::Serialize;

use super::data::Plan;
use super::flow::Flow;
use super::lives::Life;

/// The frame, with `@STYLE@`, `@SCRIPT@` and `@DATA@` as placeholders.
const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// The scripts, in the order in which they run.
const SCRIPTS: [&str; 6] = [
    include_str!("page/core.js"),
    include_str!("page/layout.js"),
    include_str!("page/arena.js"),
    include_str!("page/graph.js"),
    include_str!("page/tables.js"),
    include_str!("page/start.js"),
];

impl Plan {
    /// The plan as an HTML page: graph, steps, arena, states and waits. It loads nothing from a network.
    pub fn page<'p>(&'p self, title: &'p str) -> PlanPage<'p> {
        PlanPage { plan: self, title }
    }
}

/// A page made by [`Plan::page`]; written by `Display`.
#[derive(Clone, Copy, Debug)]
pub struct PlanPage<'p> {
    plan: &'p Plan,
    title: &'p str,
}

/// Data for the page's scripts.
#[derive(Serialize)]
struct Data<'p> {
    title: &'p str,
    plan: &'p Plan,
    lives: Vec<Life>,
    /// Bytes of the arena occupied at each step.
    alive: Vec<usize>,
    layers: Vec<Option<&'p str>>,
    bytes: Bytes,
    #[serde(flatten)]
    flow: Flow,
}

/// Bytes of each leaf.
#[derive(Serialize)]
struct Bytes {
    weights: Vec<usize>,
    states: Vec<usize>,
    constants: Vec<usize>,
}

impl<'p> Data<'p> {
    fn of(plan: &'p Plan, title: &'p str) -> Data<'p> {
        let lives = plan.lives();
        Data {
            title,
            plan,
            alive: plan.alive(&lives),
            lives,
            layers: plan.layers(),
            bytes: Bytes {
                weights: plan.weights.iter().map(|slot| slot.desc.extent()).collect(),
                states: plan.states.iter().map(|slot| slot.desc.extent()).collect(),
                constants: plan.constants.iter().map(|(_, bytes)| bytes.len()).collect(),
            },
            flow: Flow::of(plan),
        }
    }
}

impl fmt::Display for PlanPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = serde_json::to_string(&Data::of(self.plan, self.title)).map_err(|_| fmt::Error)?;
        // In JSON this character occurs only inside strings. Escaped, it can neither close the element nor open a
        // comment, whatever names contain.
        let data = data.replace('<', "\\u003c");
        for part in FRAME.split('@') {
            match part {
                "STYLE" => f.write_str(STYLE)?,
                "DATA" => f.write_str(&data)?,
                "SCRIPT" => SCRIPTS.iter().try_for_each(|script| f.write_str(script))?,
                part => f.write_str(part)?,
            }
        }
        Ok(())
    }
}
