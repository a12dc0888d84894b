"""Writes crates/rondo/tests/golden/folder-logits.json: what transformers computes from a folder that `rondo convert` wrote.

  cargo build --release && python peers/make_folder_golden.py      (needs torch, transformers 5, safetensors)

The folder is the preset tiny-llama's initial weights (seed 0), converted to GGUF and from there to a folder of Hugging
Face's. The file holds the SHA-256 of each tensor in it, so that a test without Python knows that it looks at the same
folder, and the logits of 24 tokens in f64 from these f32 weights.
"""

import argparse
import hashlib
import json
import subprocess
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
TOKENS = [(7 * i + 3) % 256 for i in range(24)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rondo", default=str(ROOT / "target" / "release" / "rondo"), help="the program")
    parser.add_argument("--out", type=Path, default=ROOT / "crates/rondo/tests/golden/folder-logits.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        train = ["train", "--preset", "tiny-llama", "--seed", "0", "--init-only", "--device", "cpu", "--out", place / "run"]
        for words in (train, ["convert", place / "run", place / "m.gguf"], ["convert", place / "m.gguf", place / "folder"]):
            subprocess.run([args.rondo, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        tensors = load_file(place / "folder" / "model.safetensors")
        model = transformers.AutoModelForCausalLM.from_pretrained(place / "folder", dtype=torch.float32)
    with torch.no_grad():
        logits = model.double().eval()(torch.tensor([TOKENS])).logits[0]
    golden = {
        "peer": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, f64",
        "tokens": TOKENS,
        "tensors": {name: hashlib.sha256(tensor.numpy().tobytes()).hexdigest() for name, tensor in sorted(tensors.items())},
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items()]
    rows = ",\n".join(json.dumps([round(x, 8) for x in row]) for row in logits.tolist())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("{\n" + ",\n".join(lines) + f',\n"logits": [\n{rows}\n]\n}}\n')
    print(f"{args.out.name}: {len(tensors)} tensors, spread of the logits {float(logits.std()):.4f}")


main()
