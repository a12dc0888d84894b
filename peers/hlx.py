"""Trains the HLX workloads in PyTorch from Rondo's own preset and initial weights, and prints what it measured as JSON.

  rondo train --preset hlx-full --seed 0 --init-only --out RUN
  python peers/hlx.py --config RUN/config.toml --weights RUN/checkpoints/step-0 --mode eager

Needs Python 3.11 and torch, nothing else. Every mode computes the same step; they differ in how it is launched:
  eager            op by op
  compile          forward, loss and backward through torch.compile
  reduce-overhead  the same, launched as CUDA graphs
  graph            the whole step with its optimizer as one CUDA graph, its batch chosen on the device, no host sync
"""

import argparse
import contextlib
import json
import math
import struct
import sys
import time
import tomllib
from pathlib import Path

import torch
import torch.nn.functional as F

CORPUS = (
    "Hello world, Machine learning, Neural network, Deep learning, Transformer model, Attention mechanism, "
    "Gradient descent, Backpropagation, Activation function, Loss function, Learning rate, Training data, "
    "Batch normalization, Convolutional layer, Recurrent network, Language model"
).split(", ")
IGNORED = 0  # a target that doesn't count


def read_safetensors(path):
    """Tensors by name: 8 bytes of header length, a JSON header, then little-endian data."""
    data = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] != "F32":
            sys.exit(f"{path}: tensor {name} has element type {entry['dtype']}; only F32 is read")
        begin, end = entry["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.float32, count=(end - begin) // 4, offset=8 + length + begin)
        tensors[name] = flat.reshape(entry["shape"]).clone()
    return tensors


def batches(context, batch_size):
    """Tokens and targets, [batches, batch_size, context] each: rows in file order, the next token as target."""
    rows = []
    for text in CORPUS:
        codes = [min(ord(c), 127) for c in f"{text} -> {text}"][:context]
        rows.append(codes + [0] * (context - len(codes)))
    rows = torch.tensor(rows)
    last = torch.zeros(len(rows), 1, dtype=torch.long)
    tokens, targets = torch.cat([rows[:, :-1], last], 1), torch.cat([rows[:, 1:], last], 1)
    return tokens.reshape(-1, batch_size, context), targets.reshape(-1, batch_size, context)


class Transformer(torch.nn.Module):
    """The model, functional over parameters that keep Rondo's names."""

    def __init__(self, model, weights):
        super().__init__()
        self.model = model
        self.names = {name.replace(".", "_"): name for name in weights}
        for safe, name in self.names.items():
            self.register_parameter(safe, torch.nn.Parameter(weights[name]))

    def weight(self, name):
        return getattr(self, name.replace(".", "_"))

    def norm(self, x, name):
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return F.layer_norm(x, weight.shape, weight, bias, self.model["norm_eps"])

    def mix(self, x, layer):
        if self.model["mixer"] == "value":
            mixed = F.linear(x, self.weight(f"{layer}.attention.v_proj.weight"))
        else:
            rows, tokens, hidden = x.shape
            heads = self.model["num_heads"]
            qkv = F.linear(x, self.weight(f"{layer}.attention.qkv_proj.weight"))
            q, k, v = qkv.view(rows, tokens, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        return F.linear(mixed, self.weight(f"{layer}.attention.o_proj.weight"))

    def mlp(self, x, layer):
        up = F.linear(x, self.weight(f"{layer}.mlp.up_proj.weight"), self.weight(f"{layer}.mlp.up_proj.bias"))
        return F.linear(F.gelu(up), self.weight(f"{layer}.mlp.down_proj.weight"), self.weight(f"{layer}.mlp.down_proj.bias"))

    def forward(self, tokens, targets):
        """The mean loss over the targets that count."""
        x = F.embedding(tokens, self.weight("embed_tokens.weight")) + self.weight("embed_positions.weight")[: tokens.shape[1]]
        for i in range(self.model["num_layers"]):
            x = x + self.mix(self.norm(x, f"layers.{i}.attention_norm"), f"layers.{i}")
            x = x + self.mlp(self.norm(x, f"layers.{i}.mlp_norm"), f"layers.{i}")
        logits = F.linear(self.norm(x, "final_norm"), self.weight("lm_head.weight"))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


class Step:
    """One training step, whose batch and place in the list of losses are chosen on the device."""

    def __init__(self, model, optimizer, data, steps, compiled):
        self.model, self.optimizer = model, optimizer
        self.loss_of = compiled(model)
        self.tokens, self.targets = data
        self.device = self.tokens.device
        self.batch = torch.zeros(1, dtype=torch.long, device=self.device)
        self.step = torch.zeros(1, dtype=torch.long, device=self.device)
        self.losses = torch.zeros(steps, dtype=next(model.parameters()).dtype, device=self.device)
        self.run = self.once

    def once(self):
        tokens, targets = self.tokens.index_select(0, self.batch)[0], self.targets.index_select(0, self.batch)[0]
        loss = self.loss_of(tokens, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.losses.index_copy_(0, self.step, loss.detach().reshape(1))
        self.step.add_(1)
        self.batch.add_(1).remainder_(len(self.tokens))

    def capture(self):
        """Turns the step into one CUDA graph; the steps that warm it up leave no trace."""
        before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.once()
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(before[name])
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()
            for counter in (self.batch, self.step, self.losses):
                counter.zero_()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.once()
        self.run = graph.replay


class Clock:
    """Marks the ends of epochs: the host's clock on a CPU, events in the stream on a GPU, so that nothing waits."""

    def __init__(self, device):
        self.cuda = device.type == "cuda"
        self.marks = []

    def mark(self):
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def milliseconds(self):
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) for a, b in zip(self.marks, self.marks[1:])]
        return [(b - a) * 1e3 for a, b in zip(self.marks, self.marks[1:])]


def gradient_summary(model, tokens, targets):
    """By parameter: the L2 norm of its first gradient, and the elements at 64 evenly strided flat positions."""
    model(tokens, targets).backward()
    summary = {}
    for safe, name in sorted(model.names.items(), key=lambda item: item[1]):
        gradient = model.get_parameter(safe).grad.double().flatten()
        positions = [i * len(gradient) // 64 for i in range(64)]
        elements = gradient[positions].tolist()
        summary[name] = {"norm": digits(gradient.norm().item()), "elements": [digits(e) for e in elements]}
    model.zero_grad(set_to_none=True)
    return summary


def autocast(dtype, device):
    """PyTorch's mixed precision: products in this type, norms and losses in f32; nothing where none is asked for."""
    types = {"bf16": torch.bfloat16, "f16": torch.float16}
    return torch.autocast(torch.device(device).type, dtype=types[dtype]) if dtype else contextlib.nullcontext()


def digits(number):
    """Nine significant digits: what tells any two f32 apart. JSON knows no infinities."""
    return float(f"{number:.9g}") if math.isfinite(number) else None


def optimizer_of(settings, parameters, kind, capturable):
    """The preset's optimizer; a clipped gradient norm is not among what HLX needs."""
    if settings.get("max_norm", 0.0) != 0.0:
        sys.exit("optimizer.max_norm is set; this side of the comparison doesn't clip")
    maker = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.get("kind", "adam")]
    betas = (settings.get("beta1", 0.9), settings.get("beta2", 0.999))
    options = {"default": {}, "foreach": {"foreach": True}, "fused": {"fused": True}}[kind]
    decay, eps = settings.get("weight_decay", 0.0), settings.get("eps", 1e-8)
    return maker(parameters, lr=settings["lr"], betas=betas, eps=eps, weight_decay=decay, capturable=capturable, **options)


def median(numbers):
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a preset, or the config.toml of a run")
    parser.add_argument("--weights", type=Path, required=True, help="checkpoint folder with model.safetensors")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mode", choices=["eager", "compile", "reduce-overhead", "graph"], default="eager")
    parser.add_argument("--adam", choices=["default", "foreach", "fused"], default="default", help="its implementation")
    parser.add_argument("--dtype", choices=["f32", "f64"], default="f32")
    parser.add_argument("--autocast", choices=["bf16", "f16"], help="torch.autocast to this type; f16 without a loss scale")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--epochs", type=int, help="in place of the preset's")
    parser.add_argument("--warmup", type=int, default=5, help="epochs that the median leaves out")
    parser.add_argument("--gradient", action="store_true", help="add a summary of the first step's gradient")
    return parser.parse_args()


def main():
    args = arguments()
    config = tomllib.loads(args.config.read_text())
    if config["data"]["corpus"] != "hlx" or config["data"].get("path"):
        sys.exit(f"{args.config}: only the built-in hlx corpus is known here")
    if config.get("grad_accumulation", 1) != 1:
        sys.exit(f"{args.config}: grad_accumulation is {config['grad_accumulation']}; only 1 is known here")
    if args.mode in ("graph", "reduce-overhead") and not args.device.startswith("cuda"):
        sys.exit(f"--mode {args.mode} needs --device cuda")
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("highest")  # no TF32: Rondo's products are f32 too
    device = torch.device(args.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dtype = {"f32": torch.float32, "f64": torch.float64}[args.dtype]

    weights = read_safetensors(args.weights / "model.safetensors")
    model = Transformer(config["model"], {name: w.to(device, dtype) for name, w in weights.items()})
    data = [part.to(device) for part in batches(config["model"]["max_context"], config["batch_size"])]
    epochs = args.epochs or config["epochs"]
    per_epoch = len(data[0])
    result = {
        "peer": f"torch {torch.__version__} {args.mode}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": args.autocast or args.dtype,
        "epochs": epochs,
        "steps": epochs * per_epoch,
    }
    if args.gradient:
        result["gradient"] = gradient_summary(model, data[0][0], data[1][0])
    optimizer = optimizer_of(config["optimizer"], model.parameters(), args.adam, args.mode == "graph")
    modes = {"compile": torch.compile, "reduce-overhead": lambda m: torch.compile(m, mode="reduce-overhead")}
    step = Step(model, optimizer, data, epochs * per_epoch, modes.get(args.mode, lambda m: m))
    if args.mode == "graph":
        step.capture()
    clock = Clock(device)
    clock.mark()
    for _ in range(epochs):
        for _ in range(per_epoch):
            with autocast(args.autocast, device):
                step.run()
        clock.mark()
    epoch_ms = clock.milliseconds()
    timed = epoch_ms[args.warmup :] or epoch_ms
    result["epoch_ms_median"] = round(median(timed), 4)
    result["epoch_ms"] = [round(ms, 4) for ms in epoch_ms]
    result["losses"] = [digits(loss) for loss in step.losses.tolist()]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
