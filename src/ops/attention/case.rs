//! Parity cases of attention: several sequences whose blocks are scattered in the cache.

use super::device::tiles_of;
use super::{Attention, KvWrite};
use crate::graph::case::{Case, CaseInput, Draw};
use crate::tensor::{DType, blocks};

/// A cache: its bytes and values.
struct Cache {
    dtype: DType,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Cache {
    /// Rows of a dtype, NaN where `used` is false, as those rows must not be read.
    fn draw(draw: &mut Draw<'_>, dtype: DType, row: usize, used: &[bool]) -> Cache {
        let drawn = draw.values(row * used.len(), 1.5);
        let (mut bytes, mut values) = (Vec::new(), vec![0.0; drawn.len()]);
        for (drawn, used) in drawn.chunks(row).zip(used) {
            match (used, dtype.is_plain()) {
                (true, _) => put(dtype, drawn, &mut bytes),
                (false, true) => put(dtype, &vec![f32::NAN; row], &mut bytes),
                // Both scales are f16 and come first; these bytes encode a NaN.
                (false, false) => bytes.extend(vec![0x7F; dtype.row_bytes(row).unwrap_or(0)]),
            }
        }
        if blocks::dequantize(dtype, &bytes, &mut values).is_err() {
            values.fill(f32::NAN);
        }
        Cache { dtype, bytes, values }
    }

    fn input(&self, shape: [usize; 3]) -> CaseInput {
        CaseInput::bytes(self.dtype, shape, self.bytes.clone()).state()
    }
}

/// Appends values in blocks. Values without an encoding append nothing, so the case gets the wrong size.
fn put(dtype: DType, values: &[f32], bytes: &mut Vec<u8>) {
    let _ = blocks::quantize(dtype, values, bytes);
}

/// The slots that the tokens may read.
struct Pages {
    n_slots: usize,
    n_blocks: usize,
    table: Vec<i32>,
    positions: Vec<i32>,
    sequences: Vec<i32>,
    used: Vec<bool>,
}

impl Pages {
    fn draw(draw: &mut Draw<'_>, op: &Attention, n_seq: usize, n_tokens: usize) -> Pages {
        let n_blocks = draw.number(1..=6);
        let limit = n_blocks * op.block_size;
        let total = n_seq * n_blocks + draw.number(0..=2);
        let mut free: Vec<i32> = (0..total as i32).collect();
        for i in (1..total).rev() {
            free.swap(i, (draw.unit() * (i + 1) as f64) as usize);
        }
        let mut sequences = Vec::new();
        while sequences.len() < n_tokens {
            // Adjacent tokens are mostly of the same sequence; sequence -1 is padding.
            let sequence = draw.number(0..=n_seq) as i32;
            let sequence = if sequence == n_seq as i32 { -1 } else { sequence };
            let run = draw.number(1..=n_tokens);
            sequences.extend(std::iter::repeat_n(sequence, run.min(n_tokens - sequences.len())));
        }
        let positions: Vec<i32> = sequences.iter().map(|_| (draw.unit() * limit as f64) as i32).collect();
        let mut pages = Pages {
            n_slots: total * op.block_size,
            n_blocks,
            table: vec![-1; n_blocks * n_seq],
            used: vec![false; total * op.block_size],
            positions,
            sequences,
        };
        for token in 0..n_tokens {
            let Ok(sequence) = usize::try_from(pages.sequences[token]) else { continue };
            for position in range(op, pages.positions[token]) {
                let entry = &mut pages.table[sequence * n_blocks + position / op.block_size];
                if *entry < 0 {
                    *entry = free.pop().unwrap_or(0);
                }
                pages.used[*entry as usize * op.block_size + position % op.block_size] = true;
            }
        }
        pages
    }

    fn slot(&self, op: &Attention, sequence: usize, position: usize) -> usize {
        let entry = self.table[sequence * self.n_blocks + position / op.block_size];
        entry as usize * op.block_size + position % op.block_size
    }
}

fn range(op: &Attention, position: i32) -> std::ops::Range<usize> {
    let end = position as usize + 1;
    op.window.map_or(0, |window| end.saturating_sub(window))..end
}

/// Uncommon heads: DeepSeek's latent attention, its prompts, odd sizes of small and old models.
const HEADS: [(usize, usize); 9] =
    [(40, 40), (72, 72), (80, 80), (96, 96), (112, 112), (256, 256), (128, 64), (192, 128), (576, 512)];

/// The sizes of a case.
#[derive(Clone, Copy, PartialEq)]
enum Sizes {
    Small,
    /// Typical of models, for a few tokens.
    Model,
    /// For a GPU's tiles: many tokens, whole heads, caches of 16-bit types or blocks.
    Tiled,
}

pub fn case(draw: &mut Draw<'_>) -> Case {
    let sizes = draw.one_of(&[Sizes::Small, Sizes::Model, Sizes::Small, Sizes::Tiled]);
    let tiled = sizes == Sizes::Tiled;
    let k_dtype = draw.one_of(&KvWrite::TYPES);
    let k_dtype = if tiled && k_dtype == DType::F32 { DType::F16 } else { k_dtype };
    let v_dtype = draw.one_of(&KvWrite::TYPES);
    let v_dtype = if tiled && tiles_of(k_dtype, v_dtype).is_none() { k_dtype } else { v_dtype };
    let (head_dim, head_dim_v) = match sizes {
        Sizes::Small => {
            let head_dim = draw.number(1..=24);
            let head_dim = if draw.flag() { head_dim.next_multiple_of(8) } else { head_dim };
            let other = draw.number(1..=20);
            (head_dim, if draw.flag() { other } else { head_dim })
        }
        Sizes::Model => draw.one_of(&HEADS),
        Sizes::Tiled => {
            let head_dim = draw.one_of(&[16, 64, 144]);
            (head_dim, if draw.flag() { 32 } else { head_dim })
        }
    };
    let head_dim = head_dim.next_multiple_of(k_dtype.block_elements());
    let head_dim_v = head_dim_v.next_multiple_of(v_dtype.block_elements());
    let (n_head_kv, group) = match sizes {
        Sizes::Model => (1, draw.one_of(&[1, 3, 16])),
        _ => (draw.number(1..=2), draw.number(1..=5)),
    };
    let n_tokens = match sizes {
        Sizes::Small => draw.number(1..=7),
        Sizes::Model => draw.number(1..=3),
        Sizes::Tiled => draw.number(32..=70),
    };
    let op = Attention {
        scale: if sizes == Sizes::Model { 0.0625 } else { draw.one_of(&[0.25, 0.125, 1.0]) },
        window: draw.flag().then(|| draw.number(1..=90)),
        softcap: draw.flag().then_some(2.5),
        block_size: draw.one_of(&[16, 1, 32, 5]),
        n_single: if draw.flag() { draw.number(0..=n_tokens + 1) } else { 0 },
    };
    let n_seq = draw.number(1..=3);
    let pages = Pages::draw(draw, &op, n_seq, n_tokens);
    let n_head = n_head_kv * group;
    let q = draw.values(head_dim * n_head * n_tokens, 2.0);
    let k = Cache::draw(draw, k_dtype, head_dim * n_head_kv, &pages.used);
    let v = Cache::draw(draw, v_dtype, head_dim_v * n_head_kv, &pages.used);
    let sinks = draw.flag().then(|| draw.values(n_head, 3.0));

    let (mut expected, mut tolerance, mut device_tolerance) = (Vec::new(), Vec::new(), Vec::new());
    let in_tiles = op.tokens_in_tiles(n_tokens);
    let rounding =
        tiles_of(k_dtype, v_dtype).filter(|_| tiled).map(|tiles| Rounding::of(tiles, k_dtype, v_dtype));
    for token in 0..n_tokens {
        let rounding = rounding.filter(|_| token < in_tiles);
        for head in 0..n_head {
            let q = &q[(token * n_head + head) * head_dim..][..head_dim];
            let sink = sinks.as_ref().map(|sinks| sinks[head]);
            let (out, bounds) = row(
                &op,
                &pages,
                token,
                (q, sink, rounding),
                |cache: &Cache, slot, n| cache.values[(slot * n_head_kv + head / group) * n..][..n].to_vec(),
                (&k, &v, head_dim_v),
            );
            expected.extend(out);
            tolerance.extend(std::iter::repeat_n(bounds[0], head_dim_v));
            device_tolerance.extend(std::iter::repeat_n(bounds[1], head_dim_v));
        }
    }
    let mut inputs = vec![
        CaseInput::f32([head_dim, n_head, n_tokens], &q),
        k.input([head_dim, n_head_kv, pages.n_slots]),
        v.input([head_dim_v, n_head_kv, pages.n_slots]),
        CaseInput::i32([n_tokens], &pages.positions),
        CaseInput::i32([n_tokens], &pages.sequences),
        CaseInput::i32([pages.n_blocks, n_seq], &pages.table).shared(),
    ];
    inputs.extend(sinks.map(|sinks| CaseInput::f32([n_head], &sinks).shared()));
    Case::with_tolerances(op, inputs, expected, tolerance).with_device_tolerance(device_tolerance)
}

/// The error of rounding a number to the tiles' type: relative, and absolute near zero.
#[derive(Clone, Copy)]
struct Rounding {
    relative: f64,
    smallest: f64,
    /// True if keys, or values, are blocks, which are rounded too.
    k: bool,
    v: bool,
}

impl Rounding {
    fn of(tiles: DType, k: DType, v: DType) -> Rounding {
        let (relative, smallest) = match tiles {
            DType::BF16 => (2f64.powi(-8), 1e-40),
            _ => (2f64.powi(-11), 2f64.powi(-25)),
        };
        Rounding { relative, smallest, k: !k.is_plain(), v: !v.is_plain() }
    }
}

/// The output of one query in f64, and each element's allowed error on a CPU and on a GPU.
fn row(
    op: &Attention,
    pages: &Pages,
    token: usize,
    (q, sink, rounding): (&[f32], Option<f32>, Option<Rounding>),
    values: impl Fn(&Cache, usize, usize) -> Vec<f32>,
    (k, v, head_dim_v): (&Cache, &Cache, usize),
) -> (Vec<f64>, [f64; 2]) {
    let mut out = vec![0.0; head_dim_v];
    let Ok(sequence) = usize::try_from(pages.sequences[token]) else { return (out, [0.0; 2]) };
    let slots: Vec<usize> =
        range(op, pages.positions[token]).map(|position| pages.slot(op, sequence, position)).collect();
    let product = |(a, b): (&f32, &f32)| f64::from(*a) * f64::from(*b);
    let mut largest_terms = 0f64;
    let mut scores: Vec<f64> = Vec::new();
    for &slot in &slots {
        let k = values(k, slot, q.len());
        let scale = f64::from(op.scale);
        let score: f64 = q.iter().zip(&k).map(product).sum::<f64>() * scale;
        let terms: f64 = q.iter().zip(&k).map(|pair| product(pair).abs()).sum::<f64>() * scale;
        largest_terms = largest_terms.max(terms);
        scores.push(op.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh()));
    }
    let weights: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
    let total = weights.iter().sum::<f64>() + sink.map_or(0.0, |sink| f64::from(sink).exp());
    let mut largest_value = 0f64;
    for (&slot, weight) in slots.iter().zip(&weights) {
        for (out, v) in out.iter_mut().zip(values(v, slot, head_dim_v)) {
            *out += f64::from(v) * weight / total;
            largest_value = largest_value.max(f64::from(v).abs());
        }
    }
    // A score is off by a rounding for the scaling and one for each product, relative to the sum of the terms'
    // magnitudes; the softcap adds 6 roundings of the cap. An error d of all scores changes each weight by a factor of
    // at most e^d, so the weighted mean by 2d of the largest value. The weights themselves, their sum and the sum of
    // values round at most once for each key and block, and 12 times more for exp, the rescaling and the division.
    let unit = 2f64.powi(-24);
    let score_error =
        unit * ((q.len() + 1) as f64 * largest_terms + f64::from(6.0 * op.softcap.unwrap_or(0.0)));
    let bound = largest_value * (2.0 * score_error + unit * (2 * slots.len() + 12) as f64);

    // A GPU's fast exp is off by 4 roundings of itself and, as its argument rounds, by one of the largest weight. A
    // weight is one exp, and another for each larger score that comes after it: at most 5 roundings per key, in
    // numerator and denominator, and two for the sums.
    let mut device = largest_value * unit * (12 * slots.len() + 40) as f64;
    let mut device_error = score_error;
    if let Some(Rounding { relative, smallest, k, v }) = rounding {
        // In tiles the queries round to the tiles' type: each term by the relative error, and by at least the smallest
        // step times a key, which is below 2 as a query is at most 2. The weights, at most 1 in a sum of at least 1,
        // round too. So do keys and values of blocks; a value's own rounding is weighted like the value.
        let step = smallest * 2.0 * q.len() as f64 * f64::from(op.scale);
        let keys = if k { (1.0 + relative) * relative * largest_terms + step } else { 0.0 };
        device_error += relative * largest_terms + step + keys;
        device += largest_value * (relative + smallest * slots.len() as f64);
        device += if v { (1.0 + relative) * (relative * largest_value + smallest) } else { 0.0 };
    }
    // Rounded numbers move scores so much that e^d is not close to 1 + d.
    device += largest_value * (2.0 * device_error).exp_m1();
    (out, [bound + 1e-37, device + 1e-37])
}
