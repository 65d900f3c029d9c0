#!/usr/bin/env python3
"""Writes a GGUF file with random weights in the shape of a known model, to measure speed with:

    python3 tools/synthetic.py 8b q4_k_m 8b-q4_k_m.gguf

Shapes: `8b` (Llama 3 8B), `1b` (Llama 3.2 1B), `tiny`. Types: f16, q8_0, q4_0, q4_k_m. Needs numpy. The vocabulary has
all bytes and made-up words, so that a server can be measured too; answers have no meaning.
"""

import struct
import sys

import numpy as np

# Layers, width, width of the feed-forward part, heads, heads of keys, elements of a head, vocabulary.
SHAPES = {
    "8b": (32, 4096, 14336, 32, 8, 128, 128256),
    "1b": (16, 2048, 8192, 32, 8, 64, 128256),
    "tiny": (2, 256, 512, 4, 2, 64, 1024),
}
# GGUF's number of a type, elements and bytes of a block.
F32, F16, Q4_0, Q8_0, Q4_K, Q6_K = (0, 1, 4), (1, 1, 2), (2, 32, 18), (8, 32, 34), (12, 256, 144), (14, 256, 210)
ALIGNMENT = 32
# Blocks that are drawn; every tensor repeats them.
N_BLOCKS = 1 << 16


def halves(values):
    return np.full((N_BLOCKS, 1), values, np.float16).view(np.uint8).reshape(N_BLOCKS, 2)


def blocks_of(dtype, rng):
    """Random blocks whose values have a deviation of about 0.02, so that no layer overflows."""
    if dtype is F16:
        return rng.normal(0, 0.02, (N_BLOCKS, 1)).astype(np.float16).view(np.uint8).reshape(N_BLOCKS, 2)
    noise = rng.integers(0, 256, (N_BLOCKS, dtype[2]), np.uint8)
    if dtype is Q4_0:
        noise[:, :2] = halves(0.02 / 4.6)
    elif dtype is Q8_0:
        noise[:, :2] = halves(0.02 / 74)
    elif dtype is Q4_K:
        # Scales and minima are up to 63, quants up to 15: the minimum takes away the mean.
        noise[:, :2], noise[:, 2:4] = halves(1e-4), halves(7.5e-4)
    elif dtype is Q6_K:
        noise[:, 208:] = halves(1.6e-5)
    return noise


def mix(kind, name, layer, n_layer):
    """The type of a matrix. Of Q4_K_M half of the values and down matrices, and the output, have six bits."""
    if kind != "q4_k_m":
        return {"f16": F16, "q8_0": Q8_0, "q4_0": Q4_0}[kind]
    more_bits = layer < n_layer // 8 or layer >= 7 * n_layer // 8 or (layer - n_layer // 8) % 3 == 2
    return Q6_K if name == "output" or (name in ("attn_v", "ffn_down") and more_bits) else Q4_K


def tensors(shape, kind):
    """Names, sizes and types."""
    n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab = shape
    yield "token_embd.weight", (n_embd, n_vocab), mix(kind, "token_embd", 0, n_layer)
    for layer in range(n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{norm}.weight", (n_embd,), F32
        for name, size in {
            "attn_q": (n_embd, n_head * head_dim),
            "attn_k": (n_embd, n_head_kv * head_dim),
            "attn_v": (n_embd, n_head_kv * head_dim),
            "attn_output": (n_head * head_dim, n_embd),
            "ffn_gate": (n_embd, n_ff),
            "ffn_up": (n_embd, n_ff),
            "ffn_down": (n_ff, n_embd),
        }.items():
            yield f"blk.{layer}.{name}.weight", size, mix(kind, name, layer, n_layer)
    yield "output_norm.weight", (n_embd,), F32
    yield "output.weight", (n_embd, n_vocab), mix(kind, "output", 0, n_layer)


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def vocabulary(n_vocab):
    """The metadata of a byte-level vocabulary without merges; its last token ends an answer."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    tokens = letters + [f"w{i}" for i in range(n_vocab - 257)] + ["<|end|>"]
    kinds = struct.pack(f"<{n_vocab}i", *[1] * (n_vocab - 1), 3)

    def array(kind, n, data):
        return struct.pack("<IIQ", 9, kind, n) + data

    yield text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2")
    yield text("tokenizer.ggml.pre") + struct.pack("<I", 8) + text("llama-bpe")
    yield text("tokenizer.ggml.tokens") + array(8, n_vocab, b"".join(map(text, tokens)))
    yield text("tokenizer.ggml.token_type") + array(5, n_vocab, kinds)
    yield text("tokenizer.ggml.merges") + array(8, 0, b"")
    yield text("tokenizer.ggml.eos_token_id") + struct.pack("<II", 4, n_vocab - 1)


def header(shape, table):
    n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab = shape
    counts = {
        "context_length": 131072,
        "block_count": n_layer,
        "embedding_length": n_embd,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "rope.dimension_count": head_dim,
    }
    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    pairs += [text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in counts.items()]
    pairs += [text("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5)]
    pairs += [text("llama.rope.freq_base") + struct.pack("<If", 6, 500000.0)]
    pairs += vocabulary(n_vocab)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(table), len(pairs)) + b"".join(pairs)
    for name, sizes, dtype, offset, _ in table:
        out += text(name) + struct.pack("<I", len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        out += struct.pack("<IQ", dtype[0], offset)
    return out + bytes(-len(out) % ALIGNMENT)


def main(shape, kind, path):
    table, offset = [], 0
    for name, sizes, dtype in tensors(SHAPES[shape], kind):
        n_bytes = int(np.prod(sizes)) // dtype[1] * dtype[2]
        table.append((name, sizes, dtype, offset, n_bytes))
        offset += n_bytes + -n_bytes % ALIGNMENT
    rng = np.random.default_rng(1)
    drawn = {}
    with open(path, "wb") as file:
        file.write(header(SHAPES[shape], table))
        for _, sizes, dtype, _, n_bytes in table:
            if dtype is F32:
                file.write(np.ones(sizes, np.float32).tobytes())
            else:
                if dtype[0] not in drawn:
                    drawn[dtype[0]] = blocks_of(dtype, rng).tobytes()
                data = drawn[dtype[0]]
                for start in range(0, n_bytes, len(data)):
                    file.write(data[: n_bytes - start])
            file.write(bytes(-n_bytes % ALIGNMENT))


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    main(*sys.argv[1:])
