"""Does llama.cpp load the files that `rondo quantize` writes, and measure the perplexity that it measures on its own?

    python peers/quantized_perplexity.py --rondo target/release/rondo --llama DIR_OF_LLAMA_BINARIES [--work DIR]

Trains a small model of Llama's type with `rondo train` on this project's own sources (about 4 minutes on 2 cores; an
earlier run in DIR is used again), makes a GGUF file of it with `rondo convert`, then quantizes that file with rondo and
with llama-quantize by every recipe, without and with an importance matrix (of llama-imatrix, where DIR_OF_LLAMA_BINARIES
has it), and measures all with llama-perplexity on sources that were held out. Exits with 1 where ours is more than
0.5% above. Needs Python alone.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

RECIPES = "q4_0 q8_0 q4_k_s q4_k_m q5_k_m q6_k".split()
# One type for every matrix, where llama-quantize has a name for that.
PURE = {"q4_1": "Q4_1", "q5_0": "Q5_0", "q5_1": "Q5_1", "q2_k": "Q2_K", "q3_k": "Q3_K_S", "q4_k": "Q4_K_S",
        "q5_k": "Q5_K_S", "iq4_nl": "IQ4_NL", "iq4_xs": "IQ4_XS", "mxfp4": "MXFP4_MOE"}
MODEL = """
preset = "perplexity"
batch_size = 4
steps = 1200

[model]
vocab_size = 1024
hidden_size = 256
num_layers = 8
num_heads = 8
num_kv_heads = 4
intermediate_size = 768
max_context = 256
mixer = "attention"
norm = "rms_norm"
norm_eps = 1e-5
positions = "rope"
mlp = "swiglu"
mlp_bias = false
tied_embeddings = false

[data]
corpus = "text"
path = "text"
tokenizer = "bpe"
shuffle = true

[optimizer]
kind = "adamw"
lr = 2e-3
max_norm = 1.0

[schedule]
kind = "cosine"
warmup_steps = 40
"""


def run(*command, cwd=None):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=cwd)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}")
    return result.stdout + result.stderr


def texts(work):
    """Every tenth source apart."""
    root = Path(__file__).resolve().parent.parent
    names = run("git", "ls-files", "crates/*/src/*.rs", "*.md", cwd=root).split()
    (work / "text").mkdir(parents=True, exist_ok=True)
    held = []
    for index, name in enumerate(names):
        text = (root / name).read_text()
        if index % 10 == 9:
            held.append(text)
        else:
            (work / "text" / (name.replace("/", "_") + ".txt")).write_text(text)
    (work / "held.txt").write_text("\n".join(held)[:120_000])
    (work / "calibration.txt").write_text("\n".join(path.read_text() for path in sorted((work / "text").iterdir())[::4])[:200_000])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rondo", required=True, type=Path)
    parser.add_argument("--llama", required=True, type=Path)
    parser.add_argument("--work", default=Path("/tmp/rondo-perplexity"), type=Path)
    parser.add_argument("--chunks", default=40, type=int)
    args = parser.parse_args()
    rondo, llama, work = args.rondo.resolve(), args.llama.resolve(), args.work
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "f16.gguf").exists():
        texts(work)
        (work / "model.toml").write_text(MODEL)
        print(run(rondo, "train", "--config", "model.toml", "--out", "run", cwd=work).strip().splitlines()[-1])
        run(rondo, "convert", work / "run", work / "f16.gguf", "--to", "f16")

    def perplexity(path):
        # It ends early now and then, whoever wrote the file.
        for _ in range(5):
            words = [llama / "llama-perplexity", "-m", path, "-f", work / "held.txt", "-c", 256, "-t", 2, "--chunks", args.chunks]
            done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
            found = re.search(r"Final estimate: PPL = ([\d.]+)", done.stdout + done.stderr)
            if found:
                return float(found.group(1))
            print(f"{path.name}: no estimate, code {done.returncode}; again", flush=True)
        sys.exit(f"{path}: llama-perplexity says nothing\n{(done.stdout + done.stderr)[-2000:]}")

    matrices, matrix = [None], work / "imatrix.gguf"
    if not matrix.exists() and (llama / "llama-imatrix").exists():
        run(llama / "llama-imatrix", "-m", work / "f16.gguf", "-f", work / "calibration.txt", "-o", matrix, "-c", 256, "-t", 2, "--chunks", 100)
    if matrix.exists():
        matrices.append(matrix)
    source, ours, theirs = work / "f16.gguf", work / "ours.gguf", work / "theirs.gguf"
    before, worst = perplexity(source), 0.0
    print(f"f16: {before:.4f}")
    for name in RECIPES + list(PURE):
        for matrix in matrices:
            extra = ["--imatrix", matrix] if matrix else []
            run(rondo, "quantize", source, ours, "--to", name, *extra)
            pure = ["--pure"] if name in PURE else []
            run(llama / "llama-quantize", *pure, *extra, source, theirs, PURE.get(name, name.upper()), 2)
            assert os.path.getsize(ours) > 0
            a, b = perplexity(ours), perplexity(theirs)
            worst = max(worst, a / b - 1)
            given = "imatrix" if matrix else "-"
            print(f"{name:7} {given:8} ours {a:8.4f}  llama.cpp's {b:8.4f}  difference {100 * (a / b - 1):+.3f}%", flush=True)
    print(f"at worst {100 * worst:+.3f}%")
    sys.exit(worst > 0.005)


main()
