"""Trains a preset of Llama's type in PyTorch from Rondo's own configuration and initial weights; prints its losses as JSON.

  rondo train --preset tiny-llama --seed 0 --init-only --out RUN
  python peers/llama.py --config RUN/config.toml --weights RUN/checkpoints/step-0

Needs Python 3.11 and torch, nothing else. What the configuration may say: RMS norm, rotary positions, SwiGLU, heads that
share keys and values, tied embeddings or not; text, a token a byte, as rows in file order; Adam or AdamW at one rate.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F

import hlx

TALE = Path(__file__).resolve().parent.parent / "presets" / "tale.txt"


def batches(config):
    """Tokens and targets, [steps, micro-batches, batch_size, context] each; a target of vocab_size doesn't count."""
    context, ignored = config["model"]["max_context"], config["model"]["vocab_size"]
    path = config["data"].get("path")
    text = list((Path(path) if path else TALE).read_bytes().removeprefix(b"\xef\xbb\xbf"))
    tokens, targets = text[:-1], text[1:]
    shape = (-1, config.get("grad_accumulation", 1), config["batch_size"], context)
    missing = -len(tokens) % (shape[1] * shape[2] * context)
    return torch.tensor(tokens + [0] * missing).reshape(shape), torch.tensor(targets + [ignored] * missing).reshape(shape)


class Llama(hlx.Transformer):
    """The model, functional over parameters that keep Rondo's names."""

    def __init__(self, model, weights):
        super().__init__(model, weights)
        head_dim = model["hidden_size"] // model["num_heads"]
        pairs = torch.arange(0, head_dim, 2, dtype=torch.float64)
        angles = torch.arange(model["max_context"]).double()[:, None] * model["rope_theta"] ** (-pairs / head_dim)
        like = next(self.parameters())
        self.cos, self.sin = (part.to(like.device, like.dtype) for part in (angles.cos(), angles.sin()))

    def linear(self, x, name):
        bias = f"{name}.bias"
        return F.linear(x, self.weight(f"{name}.weight"), self.weight(bias) if bias in self.names.values() else None)

    def norm(self, x, name):
        weight = self.weight(f"{name}.weight")
        return F.rms_norm(x, weight.shape, weight, self.model["norm_eps"])

    def turn(self, x):
        """x: [rows, heads, tokens, head_dim]; dimensions i and i + head_dim / 2 are a pair."""
        a, b = x.chunk(2, -1)
        return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)

    def mix(self, x, layer):
        rows, tokens, hidden = x.shape
        heads = self.model["num_heads"]
        shared = self.model["num_kv_heads"] or heads
        qkv = self.linear(x, f"{layer}.attention.qkv_proj").view(rows, tokens, heads + 2 * shared, hidden // heads)
        q, k, v = qkv.transpose(1, 2).split([heads, shared, shared], 1)
        k, v = (part.repeat_interleave(heads // shared, 1) for part in (self.turn(k), v))
        mixed = F.scaled_dot_product_attention(self.turn(q), k, v, is_causal=True)
        return self.linear(mixed.transpose(1, 2).reshape(x.shape), f"{layer}.attention.o_proj")

    def mlp(self, x, layer):
        gate, up = self.linear(x, f"{layer}.mlp.gate_up_proj").chunk(2, -1)
        return self.linear(F.silu(gate) * up, f"{layer}.mlp.down_proj")

    def forward(self, tokens, targets, reduction="mean"):
        """The mean loss over the targets that count, or their sum."""
        table = self.weight("embed_tokens.weight")
        x = F.embedding(tokens, table)
        for i in range(self.model["num_layers"]):
            x = x + self.mix(self.norm(x, f"layers.{i}.attention_norm"), f"layers.{i}")
            x = x + self.mlp(self.norm(x, f"layers.{i}.mlp_norm"), f"layers.{i}")
        head = table if self.model["tied_embeddings"] else self.weight("lm_head.weight")
        logits = F.linear(self.norm(x, "final_norm"), head)
        ignored = self.model["vocab_size"]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction=reduction)


def backward(model, tokens, targets):
    """The loss of a step, with its gradients; of several micro-batches, over the targets that count in all of them."""
    if len(tokens) == 1:
        loss = model(tokens[0], targets[0])
        loss.backward()
        return loss
    count = (targets != model.model["vocab_size"]).sum()
    total = 0.0
    for micro_tokens, micro_targets in zip(tokens, targets):
        loss = model(micro_tokens, micro_targets, reduction="sum") / count
        loss.backward()
        total += loss.detach()
    return total


def check(config, path):
    """Refuses what this program doesn't compute."""
    known = {
        "model": {"norm": "rms_norm", "positions": "rope", "mlp": "swiglu", "mixer": "attention"},
        "data": {"corpus": "text", "shuffle": False},
        "schedule": {"kind": "constant", "warmup_steps": 0},
    }
    for section, keys in known.items():
        for key, value in keys.items():
            if config.get(section, {}).get(key, value) != value:
                sys.exit(f"{path}: {section}.{key} is {config[section][key]}; only {value} is known here")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="the config.toml of a run")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint folder with model.safetensors")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["f32", "f64"], default="f32")
    parser.add_argument("--autocast", choices=["bf16", "f16"], help="torch.autocast to this type; f16 without a loss scale")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--steps", type=int, help="in place of the configuration's")
    parser.add_argument("--gradient", action="store_true", help="add a summary of the first step's gradient")
    return parser.parse_args()


def main():
    args = arguments()
    config = tomllib.loads(args.config.read_text())
    check(config, args.config)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("highest")  # no TF32: Rondo's products are f32 too
    dtype = {"f32": torch.float32, "f64": torch.float64}[args.dtype]
    weights = hlx.read_safetensors(args.weights / "model.safetensors")
    model = Llama(config["model"], {name: w.to(args.device, dtype) for name, w in weights.items()})
    tokens, targets = (part.to(args.device) for part in batches(config))
    steps = args.steps or config["steps"] or config["epochs"] * len(tokens)
    result = {"peer": f"torch {torch.__version__} eager", "dtype": args.autocast or args.dtype, "steps": steps}
    if args.gradient:
        result["gradient"] = hlx.gradient_summary(model, tokens[0].flatten(0, 1), targets[0].flatten(0, 1))
    max_norm = config["optimizer"].pop("max_norm", 0.0)
    optimizer = hlx.optimizer_of(config["optimizer"], model.parameters(), "default", False)
    losses = []
    for step in range(steps):
        optimizer.zero_grad(set_to_none=True)
        with hlx.autocast(args.autocast, args.device):
            loss = backward(model, tokens[step % len(tokens)], targets[step % len(tokens)])
        if max_norm > 0.0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        losses.append(loss.detach())
    result["losses"] = [hlx.digits(loss.item()) for loss in losses]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
