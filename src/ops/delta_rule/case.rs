//! Parity cases of the delta rule.

use super::{DeltaRule, KeyHeads};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::ops::runs;

/// The size of a unit in the last place.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// Sizes that reach both ways of the CPU to assign work, ends that do not fill a vector, and each number of lanes:
/// elements of a key and of a value, key heads, value heads of each.
const SIZES: &[[usize; 4]] = &[
    [4, 5, 1, 1],
    [1, 1, 1, 2],
    [16, 20, 2, 2],
    [33, 17, 1, 3],
    [64, 40, 2, 1],
    [128, 36, 1, 2],
    [8, 4, 8, 2],
    [20, 3, 5, 4],
    [200, 9, 1, 1],
    [256, 3, 1, 1],
];

/// One head of one row in f64.
struct Row {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// One for each channel.
    g: Vec<f64>,
    beta: f64,
}

/// A head's state, and bounds of the sums of which its elements are made.
#[derive(Clone)]
struct State {
    values: Vec<f64>,
    sizes: Vec<f64>,
}

impl State {
    /// Computes a row: for each column its answer and the size of the sums that it is made of.
    fn step(&mut self, row: &Row) -> Vec<(f64, f64)> {
        let d = row.k.len();
        let columns = self.values.chunks_mut(d).zip(self.sizes.chunks_mut(d)).zip(&row.v);
        let answer = |((s, size), v): ((&mut [f64], &mut [f64]), &f64)| {
            for (i, g) in row.g.iter().enumerate() {
                (s[i], size[i]) = (s[i] * g.exp(), size[i] * g.exp());
            }
            let m: f64 = s.iter().zip(&row.k).map(|(s, k)| s * k).sum();
            let m_size: f64 = size.iter().zip(&row.k).map(|(s, k)| s * k.abs()).sum();
            for (i, k) in row.k.iter().enumerate() {
                s[i] += k * row.beta * (v - m);
                size[i] += k.abs() * row.beta.abs() * (v.abs() + m_size);
            }
            let y = s.iter().zip(&row.q).map(|(s, q)| s * q).sum();
            (y, size.iter().zip(&row.q).map(|(s, q)| s * q.abs()).sum())
        };
        columns.map(answer).collect()
    }
}

fn normalised(op: &DeltaRule, head: &[f32], scale: f64) -> Vec<f64> {
    let squares: f64 = head.iter().map(|&x| f64::from(x).powi(2)).sum();
    let factor = op.l2_eps.map_or(scale, |eps| scale / (squares + f64::from(eps)).sqrt());
    head.iter().map(|&x| f64::from(x) * factor).collect()
}

pub(super) fn draw(draw: &mut Draw<'_>) -> Case {
    let [d, d_v, n_key, each] = draw.one_of(SIZES);
    let n_head = n_key * each;
    let drawn = runs::draw(draw);
    let (n_rows, n_slots) = (drawn.n_rows, drawn.n_slots);
    let op = DeltaRule {
        key_heads: draw.one_of(KeyHeads::ALL),
        l2_eps: draw.one_of(&[Some(1e-6), None]),
        scale: draw.one_of(&[1.0, 0.25]),
    };
    let (width, gated) = (draw.one_of(&[1, d]), draw.flag());
    // Keys no longer than 1, so that the state does not grow.
    let length = if op.l2_eps.is_some() { 1.0 } else { 1.0 / (d as f32).sqrt() };
    let [q, k] = [(); 2].map(|()| draw.values(d * n_key * n_rows, length));
    let v = draw.values(d_v * n_head * n_rows, 2.0);
    let mut g = draw.values(width * n_head * n_rows, 2.0);
    let mut beta = draw.values(n_head * n_rows, 1.0);
    let (dt, mut a) = (draw.values(width * n_head, 1.0), draw.values(n_head, 1.0));
    a.iter_mut().for_each(|a| *a = -a.abs());
    if !gated {
        g.iter_mut().for_each(|g| *g = -g.abs());
        beta.iter_mut().for_each(|beta| *beta = beta.abs());
    }
    let slot = d * d_v * n_head;
    let before = draw.values(slot * n_slots, 1.0);
    let row_of = |head: usize, row: usize| {
        let key = (row * n_key + op.key_heads.of(head, n_key, n_head)) * d;
        let at = row * n_head + head;
        let log = |i: usize| {
            let x = f64::from(g[at * width + i % width]);
            let x_dt = x + f64::from(dt[head * width + i % width]);
            if gated { f64::from(a[head]) * (x_dt.max(0.0) + (-x_dt.abs()).exp().ln_1p()) } else { x }
        };
        let b = f64::from(beta[at]);
        Row {
            q: normalised(&op, &q[key..key + d], op.scale.into()),
            k: normalised(&op, &k[key..key + d], 1.0),
            v: v[at * d_v..(at + 1) * d_v].iter().copied().map(f64::from).collect(),
            g: (0..d).map(log).collect(),
            beta: if gated { 1.0 / (1.0 + (-b).exp()) } else { b },
        }
    };
    let mut state: Vec<f64> = before.iter().copied().map(f64::from).collect();
    let mut bounds = vec![0.0; state.len()];
    let (mut y, mut tolerance) = (vec![0.0; d_v * n_head * n_rows], vec![0.0; d_v * n_head * n_rows]);
    // In each row: partial sums of the elements of a key, the root and quotient of the norm, and the gates' functions,
    // whose argument, up to 6, is off by a few roundings itself.
    let roundings = d as f64 / 4.0 + 80.0;
    for run in &drawn.runs {
        for head in 0..n_head {
            let place =
                |slot_of: usize| slot_of * slot + head * d * d_v..slot_of * slot + (head + 1) * d * d_v;
            let values = match run.source {
                Some(source) => before[place(source)].iter().copied().map(f64::from).collect(),
                None => vec![0.0; d * d_v],
            };
            let mut s = State { sizes: values.iter().map(|x: &f64| x.abs()).collect(), values };
            for (t, row) in run.rows.clone().enumerate() {
                for (j, (answer, size)) in s.step(&row_of(head, row)).into_iter().enumerate() {
                    let at = (row * n_head + head) * d_v + j;
                    y[at] = answer;
                    tolerance[at] = (t + 1) as f64 * roundings * UNIT * size + f64::from(f32::MIN_POSITIVE);
                }
            }
            let bound =
                |size: &f64| run.rows.len() as f64 * roundings * UNIT * size + f64::from(f32::MIN_POSITIVE);
            bounds.splice(place(run.target), s.sizes.iter().map(bound));
            state.splice(place(run.target), s.values);
        }
    }
    let mut inputs = vec![
        CaseInput::f32([d, n_key, n_rows], &q),
        CaseInput::f32([d, n_key, n_rows], &k),
        CaseInput::f32([d_v, n_head, n_rows], &v),
        CaseInput::f32([width, n_head, n_rows], &g),
        CaseInput::f32([1, n_head, n_rows], &beta),
        CaseInput::f32([d, d_v, n_head, n_slots], &before).state(),
        drawn.input,
    ];
    if gated {
        inputs.push(CaseInput::f32([width * n_head], &dt).shared());
        inputs.push(CaseInput::f32([n_head], &a).shared());
    }
    Case::with_tolerances(op, inputs, y, tolerance).and(state, bounds)
}
