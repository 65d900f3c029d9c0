//! The elements of an operator's output.

use half::{bf16, f16};
use rfgraph::tensor::DType;
use rfgraph::tensor::blocks::dequantize;

/// The values of bytes of a dtype.
pub fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
    match dtype {
        DType::F32 => words().map(|b| f32::from_le_bytes(b).into()).collect(),
        DType::I32 => words().map(|b| i32::from_le_bytes(b).into()).collect(),
        DType::F16 => halves().map(|b| f16::from_le_bytes(b).into()).collect(),
        DType::BF16 => halves().map(|b| bf16::from_le_bytes(b).into()).collect(),
        blocks => {
            let n = bytes.len() / blocks.block_bytes() * blocks.block_elements();
            let mut values = vec![0.0; n];
            dequantize(blocks, bytes, &mut values).unwrap();
            values.into_iter().map(f64::from).collect()
        }
    }
}
