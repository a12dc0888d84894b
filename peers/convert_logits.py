"""Tiny models of each family: their logits in transformers, from the folder that `rondo convert` writes, and in llama.cpp.

    python peers/convert_logits.py RONDO [--llama-perplexity PATH] [--families llama,qwen2]    (torch, transformers 5)

For each family a model with random weights is saved by transformers, converted to GGUF and back to a folder, and loaded
again: its weights must be the same bits and its logits the same numbers. With llama-perplexity the GGUF file's
log-probabilities are compared as well; that program keeps them in 16 bits and computes with rounded activations, so
these agree to about 0.01 where the tensors are right, and not to 1 where heads are permuted wrongly. After the families
come configurations that say more, and models in 16 bits.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as t
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEXT = "The cat sat on the mat, and the cat ate. Then the cat slept, didn't it? It's 2026, 12345 cats LATER. " * 12
CONTEXT = 128
SIZES = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, bos_token_id=None, eos_token_id=0, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)


def families(vocab_size):
    base = dict(SIZES, vocab_size=vocab_size)
    window = dict(sliding_window=16)
    experts = dict(num_experts_per_tok=2)
    yield "llama", t.LlamaForCausalLM, t.LlamaConfig(**base, tie_word_embeddings=True)
    yield "llama-3.1", t.LlamaForCausalLM, t.LlamaConfig(**base, rope_parameters=LLAMA3)
    yield "mistral", t.MistralForCausalLM, t.MistralConfig(**base, sliding_window=None, head_dim=64)
    yield "qwen2", t.Qwen2ForCausalLM, t.Qwen2Config(**base, tie_word_embeddings=True)
    yield "qwen3", t.Qwen3ForCausalLM, t.Qwen3Config(**base, head_dim=64)
    yield "gemma2", t.Gemma2ForCausalLM, t.Gemma2Config(**base, **window, head_dim=32, query_pre_attn_scalar=32)
    yield "gemma3", t.Gemma3ForCausalLM, t.Gemma3TextConfig(**base, **window, head_dim=32, query_pre_attn_scalar=32,
                                                             sliding_window_pattern=6)
    yield "phi3", t.Phi3ForCausalLM, t.Phi3Config(**base)
    yield "mixtral", t.MixtralForCausalLM, t.MixtralConfig(**base, num_local_experts=4, **experts)
    yield "qwen3moe", t.Qwen3MoeForCausalLM, t.Qwen3MoeConfig(**base, head_dim=64, num_experts=4,
                                                              moe_intermediate_size=64, norm_topk_prob=True, **experts)


def configurations(vocab_size):
    """What the families' configurations may say besides, and models in 16 bits: name, class, configuration, type."""
    base = dict(SIZES, vocab_size=vocab_size)
    gemma = dict(base, sliding_window=16, head_dim=32)
    experts = dict(base, head_dim=64, moe_intermediate_size=64)
    f32, half, brain = torch.float32, torch.float16, torch.bfloat16

    def rope(**more):
        return dict(rope_parameters=dict(rope_theta=1e4, **more))

    yarn = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=128)
    short, long = [1 + pair / 20 for pair in range(16)], [1 + pair / 2 for pair in range(16)]
    longrope = dict(rope(rope_type="longrope", short_factor=short, long_factor=long,
                         original_max_position_embeddings=256), original_max_position_embeddings=256)
    local = dict(full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
                 sliding_attention=dict(rope_type="default", rope_theta=5e3))
    for dtype in [brain, half]:
        name = "bf16" if dtype == brain else "f16"
        yield f"llama-{name}", t.LlamaForCausalLM, t.LlamaConfig(**base), dtype
        yield f"qwen2-{name}", t.Qwen2ForCausalLM, t.Qwen2Config(**base), dtype
        yield f"gemma3-{name}", t.Gemma3ForCausalLM, t.Gemma3TextConfig(**gemma, query_pre_attn_scalar=32), dtype
        # All experts: rounded activations would choose others of them.
        yield f"mixtral-{name}", t.MixtralForCausalLM, t.MixtralConfig(
            **base, num_local_experts=4, num_experts_per_tok=4), dtype
    yield "yarn", t.LlamaForCausalLM, t.LlamaConfig(**base, **rope(**yarn)), f32
    yield "yarn-factor", t.LlamaForCausalLM, t.LlamaConfig(**base, **rope(**yarn, attention_factor=1.3)), f32
    yield "yarn-mscale", t.Qwen3ForCausalLM, t.Qwen3Config(
        **base, head_dim=64, **rope(**yarn, mscale=0.7, mscale_all_dim=1.0)), f32
    yield "llama3-odd", t.LlamaForCausalLM, t.LlamaConfig(**base, **rope(
        rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=2.0,
        original_max_position_embeddings=64)), f32
    yield "phi3-long", t.Phi3ForCausalLM, t.Phi3Config(**dict(base, max_position_embeddings=2048), **longrope), f32
    yield "phi3-part", t.Phi3ForCausalLM, t.Phi3Config(
        **base, **rope(rope_type="default", partial_rotary_factor=0.75)), f32
    yield "gemma2-uncapped", t.Gemma2ForCausalLM, t.Gemma2Config(
        **gemma, query_pre_attn_scalar=32, attn_logit_softcapping=None, final_logit_softcapping=None), f32
    yield "gemma3-local", t.Gemma3ForCausalLM, t.Gemma3TextConfig(
        **dict(gemma, num_hidden_layers=7), query_pre_attn_scalar=32, rope_parameters=local), f32
    yield "one-expert", t.Qwen3MoeForCausalLM, t.Qwen3MoeConfig(
        **experts, num_experts=1, num_experts_per_tok=1, norm_topk_prob=True), f32
    # What llama.cpp leaves out is told, and comes back in the folder.
    yield "mistral-window", t.MistralForCausalLM, t.MistralConfig(**base, sliding_window=16), f32
    yield "gemma2-scalar", t.Gemma2ForCausalLM, t.Gemma2Config(**gemma, query_pre_attn_scalar=20), f32
    yield "experts-as-is", t.Qwen3MoeForCausalLM, t.Qwen3MoeConfig(
        **experts, num_experts=4, num_experts_per_tok=2, norm_topk_prob=False), f32


TOLD = ["mistral-window", "gemma2-scalar", "experts-as-is"]


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False))
    return made


def randomize(model):
    """Weights of a size at which every part matters, norms and biases too."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() == 1:
                parameter.add_(0.2 * noise)
            else:
                # A table that is the head too makes logits of its own size.
                small = 1.5 * parameter.shape[-1] ** -0.5
                parameter.copy_(noise * (1.0 if "embed" in name and not model.config.tie_word_embeddings else small))


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].double()


def llama_cpp(program, gguf, folder):
    """The log-probabilities of the second half of each context, and the tokens, as llama-perplexity saves them."""
    text, out = folder / "text.txt", folder / "logits.bin"
    text.write_text(TEXT)
    command = [program, "-m", gguf, "-f", text, "-c", CONTEXT, "-b", CONTEXT, "--kl-divergence-base", out, "-t", 2,
               "--chunks", 1, "-fa", "off", "-ctk", "f32", "-ctv", "f32"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"llama-perplexity failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    data = out.read_bytes()
    assert data[:8] == b"_logits_"
    context, vocab, chunks = struct.unpack_from("<3i", data, 8)
    ids = list(struct.unpack_from(f"<{context * chunks}i", data, 20))
    width = 2 * ((vocab + 1) // 2) + 4
    words = np.frombuffer(data, dtype=np.uint16, offset=20 + 4 * context * chunks).reshape(-1, width)
    scale, least = words[:, :4].copy().view(np.float32).T
    return ids, torch.tensor(scale[:, None] * words[:, 4:4 + vocab] + least[:, None]).double()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("rondo")
    arguments.add_argument("--llama-perplexity")
    arguments.add_argument("--families", default="")
    arguments.add_argument("--json", type=Path)
    arguments = arguments.parse_args()
    t.utils.logging.set_verbosity_error()
    t.utils.logging.disable_progress_bar()
    rows, bad = {}, []
    made = tokenizer()
    size = made.get_vocab_size()
    for name, kind, config, dtype in [(*row, torch.float32) for row in families(size)] + [*configurations(size)]:
        if arguments.families and name not in arguments.families.split(","):
            continue
        with tempfile.TemporaryDirectory() as place:
            place = Path(place)
            first, gguf, again = place / "first", place / f"{name}.gguf", place / "again"
            model = kind(config).float()
            randomize(model)
            model.to(dtype).save_pretrained(first)
            # Loaded again, since tables that aren't saved were rounded too.
            model = kind.from_pretrained(first, dtype=torch.float32)
            told = ""
            made.save(str(first / "tokenizer.json"))
            for pair in [(first, gguf), (gguf, again)]:
                done = subprocess.run([arguments.rondo, "convert", *map(str, pair)], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
                told += done.stderr
            same_type = all(part.dtype == dtype for part in kind.from_pretrained(again, dtype="auto").parameters())
            back = kind.from_pretrained(again, dtype=torch.float32)
            ids = made.encode(TEXT).ids[:CONTEXT]
            loaded = t.PreTrainedTokenizerFast.from_pretrained(again)
            row = {"tokens": loaded(TEXT, add_special_tokens=False)["input_ids"][:CONTEXT] == ids}
            ours = dict(back.state_dict())
            row["weights"] = all(torch.equal(tensor, ours[key]) for key, tensor in model.state_dict().items())
            reference = logits(model, ids)
            row["folder"] = float((logits(back, ids) - reference).abs().max())
            row["spread"] = float(reference.std())
            fine = same_type and ("warning" in told) == (name in TOLD) and row["tokens"] and row["folder"] <= 1e-5 * (1 + row["spread"])
            # Norms of Gemma are kept as 1 + weight, which rounds.
            fine = fine and (row["weights"] or name.startswith("gemma"))
            if arguments.llama_perplexity and name not in TOLD:
                ids, theirs = llama_cpp(arguments.llama_perplexity, gguf, place)
                reference = logits(model, ids).log_softmax(-1)[CONTEXT // 2:CONTEXT - 1]
                # What is least likely is kept least exactly.
                likely = reference > -12
                assert likely.float().mean() > 0.5
                row["llama.cpp"] = float(((theirs - reference).abs() * likely).max())
                # Beside bf16 weights it rounds activations to bf16.
                fine = fine and row["llama.cpp"] < (0.2 if dtype == torch.bfloat16 else 0.05)
            rows[name] = row
            print(f"{name:15}", "ok " if fine else "BAD", row, flush=True)
            bad += [] if fine else [name]
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(f"different: {', '.join(bad)}" if bad else 0)


main()
