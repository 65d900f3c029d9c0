//! temp
use rfgraph::model::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let m = Model::open(&a[1]).unwrap();
    let t0 = Instant::now();
    let opt = SessionOptions { n_ctx: 1024, ubatch: 128, ..Default::default() };
    let mut s = Session::new(&m, &opt).unwrap();
    println!("session {:?}", t0.elapsed());
    let id = s.open().unwrap();
    let toks: Vec<u32> = (0..128u32).map(|i| 300 + i * 7).collect();
    let mut best = f64::MAX;
    let mut bestd = f64::MAX;
    for r in 0..4 {
        s.truncate(id, 0).unwrap();
        let t = Instant::now();
        s.prefill(id, &toks).unwrap();
        best = best.min(t.elapsed().as_secs_f64());
        if r == 3 {
            s.executor().start_timing();
        }
        for _ in 0..4 {
            let t = Instant::now();
            for i in 0..4 {
                s.decode(&[(id, 400 + i)]).unwrap();
            }
            bestd = bestd.min(t.elapsed().as_secs_f64() / 4.0);
        }
    }
    println!("{} pp128 {:.1} t/s   tg {:.2} t/s", a[1], 128.0 / best, 1.0 / bestd);
    s.executor().start_timing();
    s.truncate(id, 0).unwrap();
    s.prefill(id, &toks).unwrap();
    for i in 0..4 {
        s.decode(&[(id, 400 + i)]).unwrap();
    }
    use rfgraph::exec::Executor;
    let mut show = |s: &mut Session| {
        let pid = s.last_plan().unwrap();
        let mut by: std::collections::BTreeMap<String, f64> = Default::default();
        let ex = s.executor();
        let times = ex.times(pid).to_vec();
        let plan = ex.plan(pid).unwrap();
        for (st, t) in plan.steps.iter().zip(times) {
            *by.entry(st.op.clone()).or_default() += t.as_secs_f64() * 1e3;
        }
        println!("{by:.2?} steps {}", plan.steps.len());
    };
    show(&mut s);
    s.truncate(id, 0).unwrap();
    s.prefill(id, &toks).unwrap();
    show(&mut s);
}
