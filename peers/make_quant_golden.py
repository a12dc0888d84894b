"""SHA-256 of what PyPI's gguf package (0.19) decodes from given bytes, for each block format: the golden of crates/tensor/src/quant/tests.rs.

    python peers/make_quant_golden.py > crates/tensor/src/quant/golden.json
"""

import hashlib
import json

import gguf
import numpy as np

BLOCKS = 512


def random_bytes(count):
    """The high byte of each state of Knuth's 64-bit congruential generator."""
    state, out = 1, bytearray(count)
    for i in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        out[i] = state >> 56
    return bytes(out)


def main():
    golden = {}
    for kind in gguf.GGMLQuantizationType:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        # Random blocks, then blocks of one byte each: zero, the largest and smallest signed ones, all bits.
        raw = random_bytes(BLOCKS * size) + b"".join(bytes([byte]) * size for byte in (0x00, 0x7B, 0x7F, 0x80, 0xFF))
        try:
            values = gguf.quants.dequantize(np.frombuffer(raw, np.uint8), kind)
        except (NotImplementedError, ValueError, KeyError):
            continue
        values = np.ascontiguousarray(values, dtype=np.float32)
        bits = np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32)).astype("<u4")
        golden[kind.name.lower()] = hashlib.sha256(bits.tobytes()).hexdigest()
    print(json.dumps(golden, indent=2))


main()
