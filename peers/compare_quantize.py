"""Quantizes the same GGUF with rondo and with llama.cpp's llama-quantize, and compares: errors of each element type
against the source, with and without an importance matrix; and the type that each recipe gives each tensor, for several
shapes of models. Perplexities are compared by quantized_perplexity.py.

    python peers/compare_quantize.py --rondo target/release/rondo --llama DIR_OF_LLAMA_BINARIES [--work DIR]
        [--only errors,types]

Needs PyPI's gguf and numpy. Exits with 1 where an error ratio is above 1.02 or a type differs.
"""

import argparse
import os
import subprocess
import sys

import gguf
import numpy as np

FORMATS = "q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4".split()
# llama-quantize's names where they differ. MXFP4 is for experts alone there; what is compared are experts.
LLAMA = {"q3_k": "Q3_K_S", "q4_k": "Q4_K_S", "q5_k": "Q5_K_S", "mxfp4": "MXFP4_MOE"}
RECIPES = "q4_0 q8_0 q4_k_s q4_k_m q5_k_m q6_k".split()


def distributions(rng, rows, columns):
    normal = lambda *shape: rng.standard_normal(shape)
    yield "normal", normal(rows, columns) * 0.02
    yield "laplace", rng.laplace(size=(rows, columns)) * 0.02
    yield "heavy", rng.standard_t(3, size=(rows, columns)) * 0.02
    yield "uniform", rng.uniform(-0.05, 0.05, (rows, columns))
    yield "outlier columns", normal(rows, columns) * 0.02 * np.where(rng.random(columns) < 0.01, 20, 1)
    yield "rows of scales", normal(rows, columns) * np.exp(normal(rows, 1))
    yield "shifted", normal(rows, columns) * 0.02 + 0.03
    yield "sparse", normal(rows, columns) * 0.02 * (rng.random((rows, columns)) < 0.2)


def model(path, architecture, layers, hidden, heads, kv, ffn, experts=0, tied=False, weights=None):
    """The weights of a model of the given sizes, without a tokenizer; weights(name, shape) gives each matrix."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(layers)
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(1)
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(2)
    head = hidden // heads
    shapes, norms = {"token_embd.weight": (64, hidden)}, {"output_norm.weight": hidden}
    if not tied:
        shapes["output.weight"] = (64, hidden)
    for i in range(layers):
        block = f"blk.{i}."
        norms |= {block + "attn_norm.weight": hidden, block + "ffn_norm.weight": hidden}
        if architecture == "qwen2":
            norms |= {block + "attn_q.bias": hidden, block + "attn_k.bias": kv * head, block + "attn_v.bias": kv * head}
        shapes |= {
            block + "attn_q.weight": (hidden, hidden),
            block + "attn_k.weight": (kv * head, hidden),
            block + "attn_v.weight": (kv * head, hidden),
            block + "attn_output.weight": (hidden, hidden),
        }
        if experts:
            shapes |= {
                block + "ffn_gate_exps.weight": (experts, ffn, hidden),
                block + "ffn_up_exps.weight": (experts, ffn, hidden),
                block + "ffn_down_exps.weight": (experts, hidden, ffn),
            }
            norms[block + "ffn_gate_inp.weight"] = (experts, hidden)
        else:
            shapes |= {
                block + "ffn_gate.weight": (ffn, hidden),
                block + "ffn_up.weight": (ffn, hidden),
                block + "ffn_down.weight": (hidden, ffn),
            }
    for name, size in norms.items():
        writer.add_tensor(name, np.ones(size, np.float32))
    for name, shape in shapes.items():
        values = weights(name, shape) if weights else np.zeros(shape)
        writer.add_tensor(name, values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return shapes


def imatrix(path, shapes, rng):
    """llama.cpp's old form, with random importance."""
    with open(path, "wb") as file:
        put = lambda value: file.write(np.int32(value).tobytes())
        put(len(shapes))
        for name, shape in shapes.items():
            columns = shape[-1] * (shape[0] if len(shape) > 2 else 1)
            put(len(name))
            file.write(name.encode())
            put(4)
            put(columns)
            file.write((4 * np.exp(rng.standard_normal(columns) * 1.5)).astype(np.float32).tobytes())
        put(3)
        put(4)
        file.write(b"none")


def run(*command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout + result.stderr


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def numbers(tensor):
    return gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)


def both(args, source, name, pure, matrix):
    ours, theirs = (os.path.join(args.work, f"{who}.gguf") for who in ("ours", "theirs"))
    extra = ["--imatrix", matrix] if matrix else []
    run(args.rondo, "quantize", source, ours, "--to", name, *(["--pure"] if pure else []), *extra)
    llama = LLAMA.get(name, name).upper()
    run(os.path.join(args.llama, "llama-quantize"), *(["--pure"] if pure else []), *extra, source, theirs, llama, "2")
    return ours, theirs


def errors(args):
    rng = np.random.default_rng(0)
    kinds = list(distributions(rng, 64, 1024))
    bad = 0
    print(f"{'type':7} {'imatrix':8} " + " ".join(f"{kind[:9]:>9}" for kind, _ in kinds) + "     worst")
    for name in FORMATS:
        names, experts = {}, 4 if name == "mxfp4" else 0

        def weights(tensor, shape):
            if not tensor.startswith("blk.") or (experts and len(shape) < 3):
                return np.zeros(shape)
            names[tensor], values = kinds[len(names) % len(kinds)]
            return np.resize(values, shape)

        source, matrix = os.path.join(args.work, "errors.gguf"), os.path.join(args.work, "errors.dat")
        shapes = model(source, "llama", 3, 1024, 16, 16, 1024, experts, weights=weights)
        imatrix(matrix, {k: v for k, v in shapes.items() if k.startswith("blk.")}, rng)
        importance = dict(read_imatrix(matrix))
        before = {tensor: numbers(data) for tensor, data in tensors(source).items() if tensor in names}
        for use in (None, matrix):
            ours, theirs = (tensors(path) for path in both(args, source, name, name != "mxfp4", use))
            sums = {}
            for tensor, kind in names.items():
                if ours[tensor].tensor_type != theirs[tensor].tensor_type:
                    sys.exit(f"{name}: {tensor} differs in type")
                weight = importance[tensor].reshape(-1, 1, 1024) if use else 1.0
                mean = lambda file: np.mean(((numbers(file[tensor]) - before[tensor]) ** 2).reshape(max(experts, 1), -1, 1024) * weight)
                sums.setdefault(kind, []).append((mean(ours), mean(theirs)))
            ratios = [np.sqrt(sum(a for a, _ in pairs) / sum(b for _, b in pairs)) for pairs in sums.values()]
            bad += max(ratios) > 1.02
            print(f"{name:7} {'random' if use else 'none':8} " + " ".join(f"{r:9.4f}" for r in ratios), f"   {max(ratios):.4f}", flush=True)
    return bad


def read_imatrix(path):
    data = open(path, "rb").read()
    at = 4
    for _ in range(np.frombuffer(data, np.int32, 1)[0]):
        length = np.frombuffer(data, np.int32, 1, at)[0]
        name = data[at + 4 : at + 4 + length].decode()
        calls, count = np.frombuffer(data, np.int32, 2, at + 4 + length)
        at += 12 + length
        yield name, np.frombuffer(data, np.float32, count, at) / calls
        at += 4 * count


# Architecture, layers, width, heads, heads of keys and values, feed-forward width, experts, tied.
SHAPES = [
    ("llama", 16, 512, 8, 2, 1024, 0, True),
    ("llama", 13, 256, 4, 4, 512, 0, False),
    ("llama", 80, 256, 4, 1, 256, 0, False),
    ("qwen2", 24, 896, 14, 2, 1216, 0, True),
    ("qwen2", 28, 192, 4, 1, 352, 0, False),
    ("gemma3", 26, 384, 4, 1, 768, 0, True),
    ("llama", 8, 512, 8, 2, 256, 8, False),
    ("qwen3moe", 12, 512, 8, 4, 768, 16, False),
]


def types(args):
    bad, rng = 0, np.random.default_rng(1)
    for shape in SHAPES:
        source, matrix = os.path.join(args.work, "types.gguf"), os.path.join(args.work, "types.dat")
        imatrix(matrix, model(source, *shape), rng)
        for recipe in RECIPES:
            for use in (None, matrix):
                ours, theirs = (tensors(path) for path in both(args, source, recipe, False, use))
                differ = [n for n in theirs if ours[n].tensor_type != theirs[n].tensor_type]
                bad += len(differ) + (set(ours) != set(theirs))
                given = "with" if use else "without"
                print(f"{recipe:6} {shape} {given} imatrix: {len(theirs)} tensors, {len(differ)} differ {differ[:3]}", flush=True)
    return bad


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rondo", required=True)
parser.add_argument("--llama", required=True)
parser.add_argument("--work", default="/tmp")
parser.add_argument("--only", default="errors,types")
arguments = parser.parse_args()
os.makedirs(arguments.work, exist_ok=True)
failures = sum({"errors": errors, "types": types}[what](arguments) for what in arguments.only.split(","))
print("all within bounds" if failures == 0 else f"{failures} out of bounds")
sys.exit(min(1, failures))
