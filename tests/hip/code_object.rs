//! The kernels' resources as read from a code object, intact and damaged.

use proptest::prelude::*;
use rfgraph::hip::code_object::{CodeObjectError, Resources, resources};

/// `double_it.hip`, compiled for gfx1100.
const CODE: &[u8] = include_bytes!("../fixtures/code_object/double_it-gfx1100.co");

fn bundle(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let table: usize = parts.iter().map(|(triple, _)| 24 + triple.len()).sum();
    let mut head = b"__CLANG_OFFLOAD_BUNDLE__".to_vec();
    head.extend((parts.len() as u64).to_le_bytes());
    let mut at = head.len() + table;
    for (triple, code) in parts {
        for word in [at, code.len(), triple.len()] {
            head.extend((word as u64).to_le_bytes());
        }
        head.extend(triple.bytes());
        at += code.len();
    }
    parts.iter().for_each(|(_, code)| head.extend(*code));
    head
}

#[test]
fn resources_are_read() {
    let found = resources(CODE).unwrap();
    let expected = Resources {
        name: "double_it".into(),
        vgprs: 6,
        agprs: 0,
        sgprs: 18,
        lds: 1024,
        scratch: 0,
        vgpr_spills: 0,
        sgpr_spills: 0,
        wave: 32,
        max_threads: 256,
    };
    assert_eq!(found, [expected]);
    // Written as JSON and read back, as between two processes.
    let json = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Resources>>(&json).unwrap(), found);
}

#[test]
fn bundles_are_opened() {
    let host = ("host-x86_64-unknown-linux--", &b""[..]);
    let device = ("hipv4-amdgcn-amd-amdhsa--gfx1100", CODE);
    let found = resources(&bundle(&[host, device])).unwrap();
    assert_eq!(found, resources(CODE).unwrap());
    assert_eq!(resources(&bundle(&[host])), Err(CodeObjectError::Bundle("it has no device code")));
    assert_eq!(resources(b"CCOB1234"), Err(CodeObjectError::Bundle("it is compressed")));
    let whole = bundle(&[device]);
    let cut = resources(&whole[..whole.len() - 1]);
    assert_eq!(cut, Err(CodeObjectError::Bundle("a part lies beyond its end")));
    for end in 0..80 {
        assert!(resources(&whole[..end]).is_err());
    }
}

#[test]
fn other_files_are_refused() {
    for other in [&b""[..], b"\x7fELF", b"sim", &[0; 4096]] {
        assert!(matches!(resources(other), Err(CodeObjectError::NotElf(_))), "{other:?}");
    }
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(resources(&own).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn damage_is_an_error_or_changes_numbers(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        in_bundle in any::<bool>(),
    ) {
        let mut code = match in_bundle {
            true => bundle(&[("hipv4-amdgcn-amd-amdhsa--gfx1100", CODE)]),
            false => CODE.to_vec(),
        };
        for (place, byte) in flips {
            let place = place.index(code.len());
            code[place] = byte;
        }
        if let Some(cut) = cut {
            code.truncate(cut.index(code.len()));
        }
        // Any result will do, but the call must return.
        if let Ok(kernels) = resources(&code) {
            prop_assert!(kernels.len() <= code.len());
        }
    }
}
