"""Ids of `rondo tokenize` beside those of the tokenizers library and of llama.cpp, on texts of many kinds.

    python peers/tokenizer_compare.py RONDO TEXT FILE...  [--llama LLAMA_TOKENIZE]      (tokenizers 0.23)
    python peers/tokenizer_compare.py --make TEXT FOLDER...

A FILE that ends with .gguf is compared with llama.cpp's llama-tokenize, any other with the library, both without special
tokens. --make writes a TEXT: source files found in the folders, and drawn ones: Chinese, Japanese and Korean, emoji, digits,
runs of white space, other scripts, bytes of chance made valid, any characters that there are.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

ENDINGS = {".rs", ".py", ".md", ".c", ".h", ".cpp", ".js", ".txt", ".toml"}
SCRIPTS = [(0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x10A0, 0x10FF),
           (0x1E00, 0x1FFF), (0xC0, 0x24F), (0x370, 0x3FF), (0x300, 0x36F), (0x2000, 0x206F), (0x2100, 0x214F)]
EMOJI = [chr(c) for c in [*range(0x1F300, 0x1F6FF), *range(0x2600, 0x27BF)]] + ["\u200d", "\ufe0f", "\U0001f3fd", "🇩🇪"]


def make(folders):
    draw = random.Random(5)
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.suffix in ENDINGS and file.is_file())
    draw.shuffle(files)
    parts, size = [], 0
    for file in files:
        try:
            part = file.read_bytes().decode("utf-8")[:200_000]
        except UnicodeDecodeError:
            continue
        parts.append(part)
        size += len(part)
        if size > 5_800_000:
            break

    def run(first, last, most):
        return "".join(chr(draw.randint(first, last)) for _ in range(draw.randint(1, most)))

    def many(count, one):
        parts.append("".join(one() for _ in range(count)))

    ends = ["，", "。", "、", "！", " ", "\n", "\n\n", "(", ")", "a", "12", "「"]
    asian = [(0x4E00, 0x9FA5), (0x3041, 0x30FE), (0xAC00, 0xD7A3), (0x4E00, 0x4F00)]
    many(60_000, lambda: run(*draw.choice(asian), 9) + draw.choice(ends))
    many(60_000, lambda: draw.choice(EMOJI) + draw.choice(["", "", " ", "\u200d", "\ufe0f", "x", "1", "\n"]))
    many(60_000, lambda: str(draw.randint(0, 10 ** draw.randint(1, 20))) + draw.choice([" ", ",", ".", "\n", "  ", "x", "٣٤", "Ⅷ½"]))
    spaces = ["a", "b.", " ", "\t", "\n", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\v", "\f"]
    many(80_000, lambda: draw.choice(spaces) * draw.randint(1, 9))
    many(100_000, lambda: run(*draw.choice(SCRIPTS), 8) + draw.choice([" ", "", "'s", "'LL", "\n"]))
    parts.append(draw.randbytes(800_000).decode("utf-8", "replace") + draw.randbytes(600_000).decode("utf-8", "ignore"))
    many(150_000, lambda: chr(draw.choice([draw.randint(1, 0x3000), draw.randint(0xE000, 0x10FFFF)])))
    return "\n".join(parts).replace("\0", "") + "\n"


def library(file, text):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    # A text that names a special token stays a text.
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False).ids


def llama(binary, file, text):
    flags = ["--stdin", "--ids", "--no-bos", "--no-parse-special", "--no-escape"]
    output = subprocess.run([binary, "-m", str(file), *flags], input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ids = output.stdout.decode()
    return [int(word) for word in ids[ids.rindex("[") + 1 : ids.rindex("]")].split(",") if word.strip()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="+")
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--llama")
    args = parser.parse_args()
    if args.make:
        return Path(args.words[0]).write_bytes(make([Path(word) for word in args.words[1:]]).encode())
    rondo, text, *files = args.words
    text = Path(text).read_bytes().decode()
    different = 0
    for file in map(Path, files):
        start = time.time()
        ours = subprocess.run([rondo, "tokenize", str(file)], input=text.encode(), stdout=subprocess.PIPE, check=True).stdout.split()
        middle = time.time()
        theirs = llama(args.llama, file, text) if file.suffix == ".gguf" else library(file, text)
        ours = [int(word) for word in ours]
        same = ours == theirs
        different += not same
        first = next((at for at, pair in enumerate(zip(ours, theirs)) if pair[0] != pair[1]), min(len(ours), len(theirs)))
        where = "the same" if same else f"DIFFERENT from token {first} on: {ours[first:first + 5]}, {theirs[first:first + 5]}"
        print(f"{file.name}: {len(ours)} and {len(theirs)} tokens, {where}; {middle - start:.1f} and {time.time() - middle:.1f} s", flush=True)
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
