//! Random graphs of real operators, and their results without a plan: every operator runs alone, over values that are
//! not shared.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use rfgraph::exec::{Budget, CpuExecutor, Executor, WeightMap};
use rfgraph::graph::case::Draw;
use rfgraph::graph::{Graph, GraphDef, Tensor};
use rfgraph::ops::UnaryKind;
use rfgraph::plan::compile;
use rfgraph::tensor::{DType, Desc};

use super::several::{self, Magnitude, Recur};

/// Four sizes, the contiguous dimension first.
pub type Sizes = [usize; 4];

/// One node of a random graph. Numbers name earlier nodes.
#[derive(Clone, Debug)]
pub enum Recipe {
    Input(Sizes),
    Constant(Sizes, Vec<f32>),
    Weight(DType, Sizes),
    State(Sizes),
    Add(usize, usize),
    Mul(usize, usize),
    Sub(usize, usize),
    Unary(usize, UnaryKind),
    Scale(usize, f32, f32),
    NormPlain(usize),
    Copy(usize),
    /// Two values, joined along a dimension.
    Concat(usize, usize, usize),
    /// Weight and activations.
    Linear(usize, usize),
    Reshape(usize, Sizes),
    Permute(usize, Sizes),
    /// Dimension, start, length.
    Slice(usize, [usize; 3]),
    /// State, rows, and the number of the input of slots.
    Write(usize, usize, usize),
    /// The first output of [`Magnitude`].
    Magnitude(usize),
    /// State, rows, and the number of the input of slots: the first output of [`Recur`].
    Recur(usize, usize, usize),
    /// A further output of an earlier node's operator: node and number of the output.
    Further(usize, usize),
    /// Slots of a write; no other operator reads them.
    Slots(Vec<i32>),
}

/// The generator's knowledge of a node.
#[derive(Clone, Debug)]
struct Known {
    sizes: Sizes,
    contiguous: bool,
    /// The number of writes of the state before this value is made.
    after: usize,
    /// The number of writes after which the state has the content that the value views; the value must be read before
    /// the next write.
    content: Option<usize>,
    /// An operator may read the node: it is F32, and neither a weight nor slots.
    value: bool,
}

/// A random graph: nodes in the order of construction, and the nodes that are results.
#[derive(Clone, Debug)]
pub struct RandomGraph {
    pub nodes: Vec<Recipe>,
    pub outputs: Vec<usize>,
}

const ROWS: [usize; 4] = [32, 64, 8, 1];

struct Generator<'d, 'c> {
    draw: &'d mut Draw<'c>,
    nodes: Vec<Recipe>,
    known: Vec<Known>,
    state: Option<usize>,
    /// The state after the last write, and the number of writes.
    newest: usize,
    writes: usize,
}

impl RandomGraph {
    /// Draws a graph of at most `most` operators.
    pub fn draw(draw: &mut Draw<'_>, most: usize) -> RandomGraph {
        let mut g =
            Generator { draw, nodes: Vec::new(), known: Vec::new(), state: None, newest: 0, writes: 0 };
        for _ in 0..g.draw.number(1..=4) {
            let sizes = g.sizes();
            g.leaf(Recipe::Input(sizes), sizes);
        }
        for _ in 0..g.draw.number(1..=most) {
            g.step();
        }
        let readable = |known: &Known| {
            known.value && known.contiguous && known.content.is_none_or(|content| content == g.writes)
        };
        let candidates: Vec<usize> = (0..g.nodes.len()).filter(|&i| readable(&g.known[i])).collect();
        let mut outputs: Vec<usize> = (0..g.draw.number(1..=3)).map(|_| g.draw.one_of(&candidates)).collect();
        // The last value is always an output, so that the graph has live nodes.
        outputs.extend(candidates.last());
        RandomGraph { nodes: g.nodes, outputs }
    }
}

impl Generator<'_, '_> {
    fn sizes(&mut self) -> Sizes {
        [self.draw.one_of(&ROWS), self.draw.number(1..=4), self.draw.number(1..=3), 1]
    }

    fn add(&mut self, recipe: Recipe, known: Known) -> usize {
        self.nodes.push(recipe);
        self.known.push(known);
        self.nodes.len() - 1
    }

    fn leaf(&mut self, recipe: Recipe, sizes: Sizes) -> usize {
        let value = !matches!(recipe, Recipe::Weight(..) | Recipe::Slots(_));
        self.add(recipe, Known { sizes, contiguous: true, after: 0, content: None, value })
    }

    /// A value that may be read together with those of `with`, if any fits.
    fn pick(&mut self, with: &[usize], fits: impl Fn(&Known) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.nodes.len()).filter(|&i| self.known[i].value && fits(&self.known[i])).collect();
        let all: Vec<usize> = all.into_iter().filter(|&i| self.together(with, i)).collect();
        // Mostly recent values, so that graphs are deep; sometimes any value, so that some live long.
        let recent = all.len().saturating_sub(4);
        let pool = if self.draw.number(0..=3) == 3 { &all[..] } else { &all[recent..] };
        (!pool.is_empty()).then(|| self.draw.one_of(pool))
    }

    /// An operator may read all these values together: old content of a state must not meet a value that exists only
    /// after that content was overwritten.
    fn together(&self, with: &[usize], one: usize) -> bool {
        let all = || with.iter().copied().chain([one]).map(|i| &self.known[i]);
        let after = all().map(|known| known.after).max().unwrap_or(0);
        all().filter_map(|known| known.content).all(|content| content >= after)
    }

    fn op(&mut self, recipe: Recipe, inputs: &[usize], sizes: Sizes) {
        let after = inputs.iter().map(|&i| self.known[i].after).max().unwrap_or(0);
        self.add(recipe, Known { sizes, contiguous: true, after, content: None, value: true });
    }

    fn view(&mut self, recipe: Recipe, input: usize, sizes: Sizes, contiguous: bool) {
        let of = self.known[input].clone();
        self.add(recipe, Known { sizes, contiguous, ..of });
    }

    fn values(&mut self, sizes: Sizes) -> Vec<f32> {
        self.draw.values(sizes.iter().product(), 1.5)
    }

    fn step(&mut self) {
        let Some(x) = self.pick(&[], |_| true) else { return };
        let sizes = self.known[x].sizes;
        match self.draw.number(0..=19) {
            0 | 1 => self.binary(x, sizes),
            2 | 3 => self.gate_or_norm(x, sizes),
            4 => {
                let kind = self.draw.one_of(&[UnaryKind::Silu, UnaryKind::Relu, UnaryKind::Tanh]);
                self.op(Recipe::Unary(x, kind), &[x], sizes);
            }
            5 => {
                let (factor, bias) = (self.draw.one_of(&[0.5, -1.25]), self.draw.one_of(&[0.0, 0.75]));
                self.op(Recipe::Scale(x, factor, bias), &[x], sizes);
            }
            6 => self.op(Recipe::NormPlain(x), &[x], sizes),
            7..=9 => self.linear(),
            10 => {
                let Some(x) = self.pick(&[], |known| known.contiguous) else { return };
                let sizes = self.known[x].sizes;
                let to = self.draw.one_of(&[[sizes[0] * sizes[1], sizes[2], 1, 1], sizes]);
                self.view(Recipe::Reshape(x, to), x, to, true);
            }
            11 => {
                let order = self.draw.one_of(&[[1, 0, 2, 3], [0, 2, 1, 3]]);
                let to = order.map(|dim| sizes[dim]);
                // Contiguity depends on the sizes; `false` is always safe.
                self.view(Recipe::Permute(x, order), x, to, false);
            }
            12 => {
                let dim = self.draw.number(0..=2);
                let start = self.draw.number(0..=sizes[dim] - 1);
                let len = self.draw.number(1..=sizes[dim] - start);
                let mut to = sizes;
                to[dim] = len;
                let contiguous = self.known[x].contiguous && (start, len) == (0, sizes[dim]);
                self.view(Recipe::Slice(x, [dim, start, len]), x, to, contiguous);
            }
            13 | 14 => self.write(),
            15 => self.op(Recipe::Copy(x), &[x], sizes),
            17 | 18 => self.magnitude(x, sizes),
            16 => {
                let dim = self.draw.number(0..=2);
                let same = |known: &Known| (0..4).all(|i| i == dim || known.sizes[i] == sizes[i]);
                let y = self.pick(&[x], same).unwrap_or(x);
                let mut to = sizes;
                to[dim] += self.known[y].sizes[dim];
                if to.iter().product::<usize>() <= 4096 {
                    self.op(Recipe::Concat(x, y, dim), &[x, y], to);
                }
            }
            _ => {
                let sizes = [sizes[0], 1, 1, 1];
                let values = self.values(sizes);
                self.leaf(Recipe::Constant(sizes, values), sizes);
            }
        }
    }

    fn partner(&mut self, x: usize, sizes: Sizes) -> usize {
        let divides = |known: &Known| (0..4).all(|i| sizes[i].is_multiple_of(known.sizes[i]));
        self.pick(&[x], divides).unwrap_or(x)
    }

    fn binary(&mut self, x: usize, sizes: Sizes) {
        let y = self.partner(x, sizes);
        let recipe = match self.draw.number(0..=2) {
            0 => Recipe::Add(x, y),
            1 => Recipe::Mul(x, y),
            _ => Recipe::Sub(x, y),
        };
        self.op(recipe, &[x, y], sizes);
    }

    /// The patterns of the fuse pass: an activation or a norm, then a product; sometimes in the reverse order.
    fn gate_or_norm(&mut self, x: usize, sizes: Sizes) {
        if self.draw.flag() {
            self.op(Recipe::Unary(x, UnaryKind::Silu), &[x], sizes);
        } else {
            self.op(Recipe::NormPlain(x), &[x], sizes);
        }
        let inner = self.nodes.len() - 1;
        let y = self.pick(&[inner], |known| known.sizes == sizes).filter(|&y| y != inner);
        let y = y.unwrap_or_else(|| self.partner(inner, sizes));
        let recipe = if self.known[y].sizes == sizes && self.draw.flag() {
            Recipe::Mul(y, inner)
        } else {
            Recipe::Mul(inner, y)
        };
        self.op(recipe, &[inner, y], sizes);
    }

    fn linear(&mut self) {
        let Some(x) = self.pick(&[], |known| known.contiguous) else { return };
        let sizes = self.known[x].sizes;
        let n_out = self.draw.one_of(&ROWS);
        // Blocks need rows of whole blocks.
        let whole = sizes[0].is_multiple_of(32);
        let dtype = if whole && self.draw.flag() { DType::Q8_0 } else { DType::F32 };
        let shape = [sizes[0], n_out, 1, 1];
        let weight = self.leaf(Recipe::Weight(dtype, shape), shape);
        let to = [n_out, sizes[1], sizes[2], sizes[3]];
        self.op(Recipe::Linear(weight, x), &[x], to);
        let product = self.nodes.len() - 1;
        if self.draw.flag() {
            let bias = [n_out, 1, 1, 1];
            let values = self.values(bias);
            let bias = self.leaf(Recipe::Constant(bias, values), bias);
            self.op(Recipe::Add(product, bias), &[product, bias], to);
        }
        let product = self.nodes.len() - 1;
        let same = |known: &Known| known.sizes == to;
        if let Some(residual) = self.pick(&[product], same) {
            let swap = self.draw.flag();
            let (a, b) = if swap { (residual, product) } else { (product, residual) };
            self.op(Recipe::Add(a, b), &[product, residual], to);
        }
    }

    fn magnitude(&mut self, x: usize, sizes: Sizes) {
        self.op(Recipe::Magnitude(x), &[x], sizes);
        let of = self.nodes.len() - 1;
        self.op(Recipe::Further(of, 1), &[of], sizes);
    }

    fn write(&mut self) {
        let sizes = [8, 2, 5, 1];
        let Some(_) = self.state else {
            let state = self.leaf(Recipe::State(sizes), sizes);
            self.known[state].content = Some(0);
            (self.state, self.newest) = (Some(state), state);
            return;
        };
        let n = self.draw.number(1..=3);
        let fits = |known: &Known| known.sizes == [8, 2, n, 1] && known.content.is_none() && known.contiguous;
        let rows = match self.pick(&[], fits) {
            Some(rows) => rows,
            None => {
                let values = self.values([8, 2, n, 1]);
                self.leaf(Recipe::Constant([8, 2, n, 1], values), [8, 2, n, 1])
            }
        };
        let slots = (0..n).map(|_| self.draw.number(0..=5) as i32 - 1).collect();
        let slots = self.leaf(Recipe::Slots(slots), [n, 1, 1, 1]);
        self.writes += 1;
        let known =
            Known { sizes, contiguous: true, after: self.writes, content: Some(self.writes), value: true };
        if self.draw.flag() {
            self.newest = self.add(Recipe::Write(self.newest, rows, slots), known);
            return;
        }
        // The other outputs exist only after the write of the state.
        let made = |sizes| Known { sizes, content: None, ..known.clone() };
        let y = self.add(Recipe::Recur(self.newest, rows, slots), made([8, 2, n, 1]));
        self.newest = self.add(Recipe::Further(y, 1), known.clone());
        self.add(Recipe::Further(y, 2), made([8, 2, 1, 1]));
    }
}

/// The bytes of every leaf that has data.
pub struct Data {
    /// By node: inputs are F32, slots are I32.
    pub inputs: Vec<(usize, Vec<u8>)>,
    pub weights: Arc<WeightMap>,
    weight_bytes: Vec<(usize, Vec<u8>)>,
}

/// The name of a leaf.
pub fn leaf_name(node: usize) -> String {
    format!("leaf.{node}")
}

impl RandomGraph {
    pub fn build(&self) -> GraphDef {
        let graph = Graph::new();
        let mut made: Vec<Tensor<'_>> = Vec::new();
        for (i, recipe) in self.nodes.iter().enumerate() {
            let tensor = apply(&graph, i, recipe, |i| made[i]);
            made.push(tensor);
        }
        for (i, &output) in self.outputs.iter().enumerate() {
            graph.output(format!("output.{i}"), made[output]);
        }
        graph.finish().unwrap_or_else(|error| panic!("{error}\n{:#?}", self.nodes))
    }

    /// Draws the data of the leaves.
    pub fn data(&self, draw: &mut Draw<'_>) -> Data {
        let (mut inputs, mut weight_bytes, mut weights) = (Vec::new(), Vec::new(), WeightMap::new());
        for (i, recipe) in self.nodes.iter().enumerate() {
            match recipe {
                Recipe::Input(sizes) => inputs.push((i, bytes_of(&draw.values(sizes.iter().product(), 1.5)))),
                Recipe::Slots(slots) => inputs.push((i, bytemuck::cast_slice(slots).to_vec())),
                Recipe::Weight(dtype, sizes) => {
                    let n = sizes.iter().product();
                    let data = match dtype {
                        DType::F32 => bytes_of(&draw.values(n, 0.5)),
                        dtype => draw.blocks(*dtype, n),
                    };
                    assert!(weights.insert(leaf_name(i), Desc::contiguous(*dtype, *sizes).unwrap(), &data));
                    weight_bytes.push((i, data));
                }
                _ => {}
            }
        }
        Data { inputs, weights: Arc::new(weights), weight_bytes }
    }
}

fn apply<'g>(graph: &'g Graph, i: usize, recipe: &Recipe, of: impl Fn(usize) -> Tensor<'g>) -> Tensor<'g> {
    let name = leaf_name(i);
    match recipe {
        Recipe::Input(sizes) => graph.input(name, DType::F32, *sizes),
        Recipe::Slots(slots) => graph.input(name, DType::I32, [slots.len()]),
        // One dimension if there is only one: norm weights and biases must have this shape.
        Recipe::Constant([n, 1, 1, 1], values) => graph.constant(name, values, [*n]),
        Recipe::Constant(sizes, values) => graph.constant(name, values, *sizes),
        Recipe::Weight(dtype, sizes) => graph.weight(name, *dtype, *sizes),
        Recipe::State(sizes) => graph.state(name, DType::F32, *sizes),
        Recipe::Add(a, b) => of(*a).add(of(*b)),
        Recipe::Mul(a, b) => of(*a).mul(of(*b)),
        Recipe::Sub(a, b) => of(*a).sub(of(*b)),
        Recipe::Unary(x, kind) => of(*x).unary(*kind),
        Recipe::Scale(x, factor, bias) => of(*x).scale_bias(*factor, *bias),
        Recipe::NormPlain(x) => of(*x).rms_norm_plain(1e-5),
        Recipe::Copy(x) => of(*x).copy(),
        Recipe::Concat(a, b, dim) => of(*a).concat(&[of(*b)], *dim),
        Recipe::Linear(w, x) => of(*x).linear(of(*w)),
        Recipe::Reshape(x, sizes) => of(*x).reshape(*sizes),
        Recipe::Permute(x, order) => of(*x).permute(*order),
        Recipe::Slice(x, [dim, start, len]) => of(*x).slice(*dim, *start, *len),
        Recipe::Write(state, rows, slots) => of(*state).kv_write(of(*rows), of(*slots)),
        Recipe::Magnitude(x) => graph.apply(Magnitude {}, &[of(*x)]),
        Recipe::Recur(state, rows, slots) => {
            graph.apply(Recur { keep: KEEP }, &[of(*rows), of(*state), of(*slots)])
        }
        Recipe::Further(first, index) => of(*first).outputs()[*index],
    }
}

const KEEP: f32 = 0.5;

pub fn bytes_of(values: &[f32]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

pub fn executor(threads: usize, weights: Arc<WeightMap>) -> CpuExecutor {
    let threads = NonZeroUsize::new(threads).unwrap();
    let mut executor = CpuExecutor::new(threads, weights, Budget::host(Budget::FRACTION)).unwrap();
    several::ROWS.into_iter().for_each(|row| executor.register(row));
    executor
}

/// The graph's meaning without a plan: each operator runs as a graph of its own over fresh contiguous inputs; views and
/// writes are plain loops.
pub struct Reference<'g> {
    graph: &'g RandomGraph,
    /// The state's content between runs.
    pub state: Vec<f32>,
}

impl Reference<'_> {
    pub fn new(graph: &RandomGraph) -> Reference<'_> {
        Reference { graph, state: vec![0.0; 8 * 2 * 5] }
    }

    /// Runs the graph once, and returns the outputs' values.
    pub fn run(&mut self, data: &Data) -> Vec<Vec<f32>> {
        let mut values: Vec<Vec<f32>> = Vec::new();
        let mut sizes: Vec<Sizes> = Vec::new();
        // Outputs after the first, by node and number.
        let mut further: BTreeMap<(usize, usize), (Vec<f32>, Sizes)> = BTreeMap::new();
        for (i, recipe) in self.graph.nodes.iter().enumerate() {
            let given = || {
                let found = data.inputs.iter().find(|(node, _)| *node == i).unwrap();
                found.1.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect()
            };
            let (value, shape) = match recipe {
                Recipe::Input(shape) => (given(), *shape),
                Recipe::Slots(slots) => (Vec::new(), [slots.len(), 1, 1, 1]),
                Recipe::Weight(_, shape) => (Vec::new(), *shape),
                Recipe::Constant(shape, values) => (values.clone(), *shape),
                Recipe::State(shape) => (self.state.clone(), *shape),
                Recipe::Reshape(x, shape) => (values[*x].clone(), *shape),
                Recipe::Permute(x, order) => {
                    let to = order.map(|dim| sizes[*x][dim]);
                    let from = |index: Sizes| {
                        let mut at = [0; 4];
                        order.iter().zip(index).for_each(|(&dim, i)| at[dim] = i);
                        at
                    };
                    (gather(&values[*x], sizes[*x], to, from), to)
                }
                Recipe::Slice(x, [dim, start, len]) => {
                    let mut to = sizes[*x];
                    to[*dim] = *len;
                    let from = |mut index: Sizes| {
                        index[*dim] += start;
                        index
                    };
                    (gather(&values[*x], sizes[*x], to, from), to)
                }
                Recipe::Write(state, rows, slots) => {
                    let Recipe::Slots(slots) = &self.graph.nodes[*slots] else { panic!("slots") };
                    let mut after = values[*state].clone();
                    for (row, slot) in values[*rows].chunks(16).zip(slots) {
                        if let Ok(slot) = usize::try_from(*slot) {
                            after[slot * 16..][..16].copy_from_slice(row);
                        }
                    }
                    self.state.clone_from(&after);
                    (after, sizes[*state])
                }
                Recipe::Magnitude(x) => {
                    let signs = values[*x].iter().map(|&x| if x < 0.0 { -1.0 } else { 1.0 }).collect();
                    further.insert((i, 1), (signs, sizes[*x]));
                    (values[*x].iter().map(|x| if *x < 0.0 { -x } else { *x }).collect(), sizes[*x])
                }
                Recipe::Recur(state, rows, slots) => {
                    let Recipe::Slots(slots) = &self.graph.nodes[*slots] else { panic!("slots") };
                    let (y, after, sums) = recur(&values[*rows], &values[*state], slots);
                    self.state.clone_from(&after);
                    further.insert((i, 1), (after, sizes[*state]));
                    further.insert((i, 2), (sums, [8, 2, 1, 1]));
                    (y, sizes[*rows])
                }
                Recipe::Further(first, index) => further[&(*first, *index)].clone(),
                recipe => alone(recipe, &values, &sizes, data),
            };
            values.push(value);
            sizes.push(shape);
        }
        self.graph.outputs.iter().map(|&i| values[i].clone()).collect()
    }
}

/// The outputs of [`Recur`]: `y`, the state afterwards, the sums.
fn recur(rows: &[f32], state: &[f32], slots: &[i32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut y, mut after, mut sums) = (rows.to_vec(), state.to_vec(), vec![0.0; 16]);
    for (y, slot) in y.chunks_mut(16).zip(slots) {
        for i in 0..16 {
            if let Ok(slot) = usize::try_from(*slot) {
                y[i] += KEEP * after[slot * 16 + i];
                after[slot * 16 + i] = y[i];
            }
            sums[i] += y[i];
        }
    }
    (y, after, sums)
}

fn gather(values: &[f32], sizes: Sizes, to: Sizes, from: impl Fn(Sizes) -> Sizes) -> Vec<f32> {
    let mut out = Vec::new();
    for i in 0..to.iter().product() {
        let mut rest = i;
        let index = to.map(|n| {
            let at = rest % n;
            rest /= n;
            at
        });
        let at = from(index).iter().zip(sizes).rev().fold(0, |at, (i, n)| at * n + i);
        out.push(values[at]);
    }
    out
}

/// Runs one operator as a graph of its own, on one thread.
fn alone(recipe: &Recipe, values: &[Vec<f32>], sizes: &[Sizes], data: &Data) -> (Vec<f32>, Sizes) {
    let graph = Graph::new();
    let mut inputs: Vec<usize> = match recipe {
        Recipe::Add(a, b) | Recipe::Mul(a, b) | Recipe::Sub(a, b) | Recipe::Concat(a, b, _) => vec![*a, *b],
        Recipe::Unary(x, _)
        | Recipe::Scale(x, ..)
        | Recipe::NormPlain(x)
        | Recipe::Linear(_, x)
        | Recipe::Copy(x) => {
            vec![*x]
        }
        other => panic!("{other:?} is not an operator that runs alone"),
    };
    inputs.dedup();
    let shape = |i: usize| match sizes[i] {
        [n, 1, 1, 1] => rfgraph::tensor::Shape::from([n]),
        sizes => sizes.into(),
    };
    let tensors: Vec<_> =
        inputs.iter().map(|&i| (i, graph.input(leaf_name(i), DType::F32, shape(i)))).collect();
    let find = |i: usize| tensors.iter().find(|(node, _)| *node == i).map(|(_, tensor)| *tensor);
    let weight = |i: usize| {
        let Recipe::Linear(..) = recipe else { panic!("only products have weights") };
        let (_, bytes) = data.weight_bytes.iter().find(|(node, _)| *node == i).unwrap();
        let n: usize = sizes[i].iter().product();
        let dtype = if bytes.len() == 4 * n { DType::F32 } else { DType::Q8_0 };
        graph.weight(leaf_name(i), dtype, sizes[i])
    };
    let out = apply(&graph, 0, recipe, |i| find(i).unwrap_or_else(|| weight(i)));
    let sizes = out.desc().unwrap().shape.ne();
    graph.output("out", out);
    let mut executor = executor(1, data.weights.clone());
    let plan = compile(&graph.finish().unwrap(), &executor.device()).unwrap();
    let id = executor.load(plan).unwrap();
    for &i in &inputs {
        executor.set(id, &leaf_name(i), &values[i]).unwrap();
    }
    let outputs = executor.run(id).unwrap().wait().unwrap();
    (outputs.at::<f32>(0).unwrap().to_vec(), sizes)
}
