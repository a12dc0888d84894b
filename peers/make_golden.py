"""Writes crates/train/tests/golden/*.json: PyTorch's losses and first gradients from Rondo's own initial weights.

  cargo build --release && python peers/make_golden.py      (needs torch and numpy)

Each file holds the losses of all steps of one preset and seed (400 of HLX, 50 of tiny-llama), in f32 on one thread;
seed 0 also has a summary of the first step's gradient. `initial_sha256` is over the initial parameters' bytes in order of their names, so that a test can say
"other weights" and not just "other losses".
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import hlx

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "crates" / "train" / "tests" / "golden"
# By name: the preset, its program, its seeds, and what is set over it.
RUNS = {
    "hlx-simple": ("hlx-simple", "hlx.py", (0, 1, 2), []),
    "hlx-full": ("hlx-full", "hlx.py", (0, 1, 2), []),
    "tiny-llama": ("tiny-llama", "llama.py", (0,), []),
    # Two of the four micro-batches of each fifth step have no target that counts.
    "tiny-llama-accumulated": ("tiny-llama", "llama.py", (0,), ["batch_size=2", "grad_accumulation=4"]),
}


def initial_sha256(folder):
    tensors = hlx.read_safetensors(folder / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def train(program, config, weights, gradient):
    command = [sys.executable, str(ROOT / "peers" / program), "--config", str(config), "--weights", str(weights)]
    command += ["--threads", "1"] + (["--gradient"] if gradient else [])
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def golden(name, seed, config, weights):
    preset, program, _, settings = RUNS[name]
    run = train(program, config, weights, gradient=seed == 0 and not settings)
    lines = {"preset": preset} | ({"set": settings} if settings else {})
    lines |= {"seed": seed, "peer": run["peer"], "initial_sha256": initial_sha256(weights)}
    lines |= {key: run[key] for key in ("losses", "gradient") if key in run}
    body = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in lines.items())
    path = GOLDEN / f"{name}-seed{seed}.json"
    path.write_text("{\n" + body + "\n}\n")
    print(f"{path.name}: {len(run['losses'])} losses, the last four {sum(run['losses'][-4:]) / 4:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rondo", default=str(ROOT / "target" / "release" / "rondo"), help="the program")
    parser.add_argument("--run", choices=list(RUNS), action="append", help="in place of all of them")
    args = parser.parse_args()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in args.run or RUNS:
        preset, _, seeds, settings = RUNS[name]
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder) / "run"
                init = [args.rondo, "train", "--preset", preset, "--seed", str(seed), "--init-only", "--out", str(run)]
                init += [word for setting in settings for word in ("--set", setting)]
                subprocess.run(init + ["--device", "cpu"], check=True, stdout=subprocess.DEVNULL)
                golden(name, seed, run / "config.toml", run / "checkpoints" / "step-0")


if __name__ == "__main__":
    main()
