"""What bitsandbytes (0.50.2) makes of numbers in NF4: the golden of crates/tensor/src/quant/nf4/tests.rs.

    python peers/make_nf4_golden.py > crates/tensor/src/quant/nf4/golden.json

Lists are given as the SHA-256 of their little-endian bytes, numbers as f32. Needs PyPI's torch and bitsandbytes; runs
on a CPU.
"""

import hashlib
import json

import bitsandbytes.functional as F
import torch


def hashed(tensor):
    return hashlib.sha256(tensor.contiguous().flatten().numpy().tobytes()).hexdigest()


# 320 blocks, more than one outer block; largest magnitudes whose sum is exact in f32.
i = torch.arange(20480)
x = ((i * 7919 % 1009).float() - 504.0) / 1024.0 * (1 + i // 64 % 7).float()
codes, state = F.quantize_4bit(x, blocksize=64, quant_type="nf4")
double_codes, double = F.quantize_4bit(x, blocksize=64, quant_type="nf4", compress_statistics=True)
assert torch.equal(codes, double_codes)
print(
    json.dumps(
        {
            "values": hashed(state.code),
            "dynamic_values": hashed(F.create_dynamic_map()),
            "codes": hashed(codes),
            "scales": hashed(state.absmax),
            "decoded": hashed(F.dequantize_4bit(codes, state)),
            "double_codes": hashed(double.absmax),
            "double_largest": hashed(double.state2.absmax),
            "double_offset": double.offset.item(),
            "double_decoded": hashed(F.dequantize_4bit(double_codes, double)),
        },
        indent=2,
    )
)
