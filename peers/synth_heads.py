"""The SHA-256 of a GGUF file's list of tensors, which a test compares with what `rondo synth` plans.

    python peers/synth_heads.py FILE.gguf [FILE.gguf]      (numpy, gguf)

A line is `name type [sizes, outermost first] bytes`. With two files their lists must be equal. The hashes in
crates/model/src/synth.rs are of files that llama.cpp's recipe gave, made by another program; only the head of a file is
read, so one that was cut off behind it will do for a look at the list.
"""

import hashlib
import sys

from gguf import GGUFReader


def lines(path):
    for tensor in GGUFReader(path).tensors:
        sizes = [int(size) for size in reversed(tensor.shape)]
        yield f"{tensor.name} {tensor.tensor_type.name.lower()} {sizes} {int(tensor.n_bytes)}\n"


lists = [list(lines(path)) for path in sys.argv[1:]]
for path, all_lines in zip(sys.argv[1:], lists):
    print(hashlib.sha256("".join(all_lines).encode()).hexdigest(), len(all_lines), "tensors", path)
if any(other != lists[0] for other in lists):
    sys.exit("the lists differ, first in " + next(f"{a!r} and {b!r}" for a, b in zip(*lists) if a != b))
