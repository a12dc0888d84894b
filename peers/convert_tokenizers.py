"""Vocabularies of real models through `rondo convert`: the ids of transformers from the folder, and of llama.cpp from its GGUF.

    python peers/convert_tokenizers.py RONDO VOCABULARIES [--llama-tokenize PATH]    (gguf, transformers 5)

VOCABULARIES is a folder of ggml-vocab-NAME.gguf with NAME.gguf.inp and NAME.gguf.out, as llama.cpp's own tests have
them. Each becomes a Llama of one small layer, which is converted to a folder and, without what convert keeps of the GGUF
file beside it, back to a GGUF file.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import transformers

BETWEEN = "\n__ggml_vocab_test__\n"
HIDDEN, HEADS, INTERMEDIATE = 64, 2, 64


def write(vocabulary, path):
    reader = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if not name.startswith("tokenizer."):
            continue
        kind, inner = field.types[0], field.types[-1]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(name, field.contents(), kind, sub_type=inner)
        else:
            writer.add_key_value(name, field.contents(), kind)
    writer.add_name(Path(vocabulary).stem)
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INTERMEDIATE)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    random = np.random.default_rng(0)
    tokens = len(reader.fields["tokenizer.ggml.tokens"].data)
    shapes = {"token_embd": (tokens, HIDDEN), "output_norm": (HIDDEN,), "output": (tokens, HIDDEN)}
    for part in ["attn_norm", "ffn_norm"]:
        shapes[f"blk.0.{part}"] = (HIDDEN,)
    for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]:
        shapes[f"blk.0.{part}"] = (HIDDEN, HIDDEN)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True)
    if done.returncode:
        sys.exit(f"{command}:\n{done.stderr.decode()}")
    return done


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("rondo")
    arguments.add_argument("vocabularies", type=Path)
    arguments.add_argument("--llama-tokenize")
    arguments = arguments.parse_args()
    transformers.utils.logging.set_verbosity_error()
    bad = []
    for vocabulary in sorted(arguments.vocabularies.glob("ggml-vocab-*.gguf")):
        lists = [Path(f"{vocabulary}.{end}").read_bytes().decode() for end in ["inp", "out"]]
        texts, expected = lists[0].split(BETWEEN)[:-1], [[int(i) for i in line.split()] for line in lists[1].splitlines()]
        with tempfile.TemporaryDirectory() as place:
            first, folder, again = (Path(place) / name for name in ["first.gguf", vocabulary.stem, "again.gguf"])
            write(vocabulary, first)
            said = run(arguments.rondo, "convert", first, folder).stderr.decode()
            if not (folder / "tokenizer.json").exists():
                sys.exit(f"{vocabulary.stem}: {said}")
            loaded = transformers.AutoTokenizer.from_pretrained(folder)
            ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in texts]
            row = {"texts": len(texts), "transformers": sum(a != b for a, b in zip(ids, expected, strict=True))}
            row["back"] = sum(loaded.decode(line) != text for line, text in zip(ids, texts))
            (folder / "gguf_metadata.json").unlink()
            said += run(arguments.rondo, "convert", folder, again).stderr.decode()
            row["warnings"] = [line for line in said.splitlines() if "warning" in line]
            if arguments.llama_tokenize:
                row["llama.cpp"] = 0
                for text, line in zip(texts, expected):
                    prompt = Path(place) / "text"
                    prompt.write_bytes(text.encode())
                    done = run(arguments.llama_tokenize, "-m", again, "-f", prompt, "--ids", "--no-bos",
                               "--no-parse-special", "--log-disable")
                    row["llama.cpp"] += eval(done.stdout) != line
            fine = not (row["transformers"] or row["warnings"] or row.get("llama.cpp"))
            print(f"{vocabulary.stem:24}", "ok " if fine else "BAD", row, flush=True)
            bad += [] if fine else [vocabulary.stem]
    sys.exit(f"different: {', '.join(bad)}" if bad else 0)


main()
