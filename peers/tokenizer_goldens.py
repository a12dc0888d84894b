"""tokenizer.json files of several kinds, trained with the tokenizers library, and the ids that it gives.

    python peers/tokenizer_goldens.py crates/model/tests/tokenizers      (tokenizers 0.23)

Each NAME.json is a tokenizer; goldens.json holds texts and, for each name, the ids of each text without special tokens
around them, and what the library decodes them to.
"""

import json
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "The cat sat on the mat, and the cat ate. Then the cat slept, didn't it? It's 2026, 12345 cats LATER.",
    "Été naïve façade, Über Straße. Hello world! Hello, World; helloWorld's HTTPServer isn't ready.",
    "def main():\n    for i in range(100):\n        print(i, 'x' * 3)\n\n\treturn 0\n",
    "нещо на Български 猫が好きです 고양이 🦙 and 👍🏽",
] * 3
TEXTS = [
    "",
    " ",
    "   ",
    "\n",
    "\t\n \r\n  x",
    "Hello world!",
    " Hello  World's  cats, 12345 67!",
    "helloWorld's HTTPServer DIDN'T it'LL",
    "def f(x):\n    return x  # été\n\n\n",
    "нещо 猫 고양이 🦙👍🏽",
    "a\u0301e\u0301 combining \u00a0 nbsp \u2003em",
    "The cat ▁ sat <0x41> [UNK] x",
    "1 12 123 1234 12345 ٣٤٥",
    "!!! ... ??? <<>> ~~`` $$ ++",
    "word" * 40,
]
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|end|>"]


def byte_level(pre_tokenizer, normalizer=None, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def gpt2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3():
    split = pre_tokenizers.Split(Regex(CL100K), "isolated")
    tokenizer = byte_level(
        pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        ignore_merges=True,
    )
    end = tokenizer.token_to_id("<|end|>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<|end|> $A", special_tokens=[("<|end|>", end)])
    return tokenizer


def qwen2():
    split = pre_tokenizers.Split(Regex(CL100K.replace("{1,3}", "")), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level(pre_tokenizers.Sequence([split, byte]), normalizers.NFC())


def digits():
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return byte_level(pre_tokenizers.Sequence(steps))


def prefixed():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))


def llama2():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    # Trained on words, so that no token reaches over a space.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(CORPUS, trainer)
    data = json.loads(tokenizer.to_str())
    data["pre_tokenizer"] = None
    data["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] < 3]
    return Tokenizer.from_str(json.dumps(data))


def metaspace():
    data = json.loads(llama2().to_str())
    data["normalizer"] = None
    data["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return Tokenizer.from_str(json.dumps(data))


def characters():
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False))
    return tokenizer


def bert():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False))
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def words():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return tokenizer


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    makers = [gpt2, llama3, qwen2, digits, prefixed, llama2, metaspace, characters, bert, unigram, words]
    goldens = {"texts": TEXTS, "ids": {}, "decoded": {}}
    for make in makers:
        tokenizer = make()
        text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        (folder / f"{make.__name__}.json").write_text(text, encoding="utf-8")
        # A text that names a special token stays a text.
        tokenizer.encode_special_tokens = True
        encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
        goldens["ids"][make.__name__] = encoded
        goldens["decoded"][make.__name__] = [tokenizer.decode(ids) for ids in encoded]
    text = json.dumps(goldens, ensure_ascii=False, separators=(",", ":"))
    (folder / "goldens.json").write_text(text.replace('],"', '],\n"'), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
