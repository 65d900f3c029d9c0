//! Kernels compute right results with waves of 32 and 64, for any seed.

use rfgraph::hip::platform::sim::{Checks, Config, Schedule};

use super::rig::{Arg, Rig, SOUND};

/// Devices of both wave sizes, with several seeds, checks and schedules.
fn devices() -> impl Iterator<Item = Config> {
    let checks = [Checks::Full, Checks::Memory, Checks::Fast, Checks::Full];
    [32, 64].into_iter().flat_map(move |wave| {
        checks.into_iter().enumerate().map(move |(seed, checks)| Config {
            wave,
            checks,
            seed: seed as u64 * 77,
            schedule: if seed == 3 { Schedule::Eager } else { Schedule::Late },
            ..Config::default()
        })
    })
}

#[test]
fn kernels_compute_the_right_results() {
    for config in devices() {
        let wave = config.wave as i32;
        let rig = Rig::new(config);
        let module = rig.module(SOUND);
        let n = 1000usize;
        let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
        let (da, db, dc) = (rig.upload(&a), rig.upload(&b), rig.alloc(4 * n));
        let args = [Arg::P(da), Arg::P(db), Arg::P(dc), Arg::L(n as i64)];
        rig.launch(rig.function(module, "add"), 4, 256, 0, &args);
        let c: Vec<f32> = rig.download(dc, n);
        assert!(c.iter().enumerate().all(|(i, &c)| c == 1.5 * i as f32));

        let sums = rig.alloc(4 * 4);
        let args = [Arg::P(da), Arg::P(sums), Arg::I(n as i32)];
        rig.launch(rig.function(module, "block_sums"), 4, 256, 0, &args);
        let want: Vec<f32> = a.chunks(256).map(|block| block.iter().sum()).collect();
        assert_eq!(rig.download::<f32>(sums, 4), want);

        let x: Vec<i32> = (0..512).collect();
        let (dx, dy) = (rig.upload(&x), rig.alloc(4 * 512));
        let args = [Arg::P(dx), Arg::P(dy)];
        rig.launch(rig.function(module, "reverse_twice"), 2, 256, 4 * 256, &args);
        assert_eq!(rig.download::<i32>(dy, 512), x);
        rig.launch(rig.function(module, "wave_neighbours"), 1, 128, 0, &args);
        let next = |t: i32| t / wave * wave + (t + 2) % wave;
        assert_eq!(rig.download::<i32>(dy, 128), (0..128).map(next).collect::<Vec<_>>());

        let mut layout = [0i64; 8];
        layout[1] = 11;
        rig.launch(rig.function(module, "shuffles"), 1, 128, 0, &[Arg::P(dy), Arg::Layout(layout)]);
        let of = |t: i32| (0..wave).map(|from| (from * 3 + 11) * (from + t % wave)).sum::<i32>();
        assert_eq!(rig.download::<i32>(dy, 128), (0..128).map(of).collect::<Vec<_>>());
        rig.sim.assert_no_fault();
    }
}

#[test]
fn halves_are_exact() {
    let rig = Rig::new(Config { checks: Checks::Memory, ..Config::default() });
    let module = rig.module(SOUND);
    let all: Vec<u16> = (0..=u16::MAX).collect();
    let n = all.len();
    let (dx, dy, back) = (rig.upload(&all), rig.alloc(4 * n), rig.alloc(2 * n));
    let args = [Arg::P(dx), Arg::P(dy), Arg::P(back), Arg::I(n as i32)];
    rig.launch(rig.function(module, "halves"), 1, 64, 0, &args);
    let (floats, back): (Vec<f32>, Vec<u16>) = (rig.download(dy, n), rig.download(back, n));
    for (&bits, (&float, &back)) in all.iter().zip(floats.iter().zip(&back)) {
        let want = half::f16::from_bits(bits);
        if want.is_nan() {
            assert!(float.is_nan() && half::f16::from_bits(back).is_nan(), "{bits:#x}");
        } else {
            assert_eq!(float.to_bits(), want.to_f32().to_bits(), "{bits:#x}");
            assert_eq!(back, bits);
        }
    }
    // Values between two halves, in the middle, next to it and out of range: rounded to nearest, ties to even.
    let mut values: Vec<f32> = Vec::new();
    for bits in (0..0x7C00u16).step_by(7) {
        let (low, high) = (half::f16::from_bits(bits).to_f32(), half::f16::from_bits(bits + 1).to_f32());
        let middle = if high.is_finite() { 0.5 * (low + high) } else { 65520.0 };
        for value in [middle, middle.next_up(), middle.next_down()] {
            values.extend([value, -value]);
        }
    }
    values.extend([0.0, -0.0, 1e-30, 1e30, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY]);
    let (dx, dy) = (rig.upload(&values), rig.alloc(2 * values.len()));
    let args = [Arg::P(dx), Arg::P(dy), Arg::I(values.len() as i32)];
    rig.launch(rig.function(module, "to_half"), 1, 64, 0, &args);
    let got: Vec<u16> = rig.download(dy, values.len());
    for (value, got) in values.iter().zip(got) {
        assert_eq!(got, half::f16::from_f32(*value).to_bits(), "{value}");
    }
}

#[test]
fn byte_dot_products_are_signed() {
    let rig = Rig::new(Config::default());
    let module = rig.module(SOUND);
    let words: Vec<i32> = (0..256i32).map(|i| i.wrapping_mul(0x5851_F42D).rotate_left(9)).collect();
    let other: Vec<i32> = words.iter().rev().copied().collect();
    let (a, b, c) = (rig.upload(&words), rig.upload(&other), rig.alloc(1024));
    let args = [Arg::P(a), Arg::P(b), Arg::P(c), Arg::I(256)];
    rig.launch(rig.function(module, "dots"), 1, 32, 0, &args);
    let dot = |i: usize| {
        let bytes = words[i].to_le_bytes().into_iter().zip(other[i].to_le_bytes());
        bytes.fold(i as i32, |sum, (a, b)| sum + i32::from(a as i8) * i32::from(b as i8))
    };
    assert_eq!(rig.download::<i32>(c, 256), (0..256).map(dot).collect::<Vec<_>>());
}
