//! Pre-tokenizers: the rules by which each family cuts a text before its bytes are merged, in time linear in the text.
#![forbid(unsafe_code)]

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};
use std::sync::OnceLock;

/// A rule whose pattern ends with `|\s+(?!\S)|\s+`: white space leaves its last character to the word after it.
const SPACED: bool = true;
/// A rule that is its pattern; what it doesn't match stays together.
const PLAIN: bool = false;

/// English contractions, of any case.
macro_rules! contractions {
    () => {
        r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"
    };
}
/// Words of capital and small letters in turn, as o200k and Tekken cut them; `$end` may follow a word.
macro_rules! cased {
    ($end:expr) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $end,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $end
        )
    };
}
/// The same but for Chinese characters, which stand alone (Kimi K2).
macro_rules! cased_but_han {
    () => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
            r"(?:",
            contractions!(),
            r")?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?:",
            contractions!(),
            r")?"
        )
    };
}

/// GPT-2's words (Radford et al. 2019).
const GPT2: (bool, &str) = (SPACED, r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
/// cl100k's words, with up to three digits (`$digits`) or one.
macro_rules! words {
    ($digits:expr) => {
        (
            SPACED,
            concat!(
                contractions!(),
                r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
                $digits,
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
            ),
        )
    };
}
const LLAMA3: (bool, &str) = words!("{1,3}");
const QWEN2: (bool, &str) = words!("");
const DEEPSEEK3: (bool, &str) = (
    SPACED,
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"
    ),
);
const CJK: (bool, &str) = (PLAIN, "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+");
const HAN_AND_HANGUL: (bool, &str) = (PLAIN, "[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+");
const DIGIT: (bool, &str) = (PLAIN, r"\p{N}");
const LINES: (bool, &str) = (PLAIN, r"[^\n]+|[\n]+");
const BLOOM: (bool, &str) = (PLAIN, r" ?[^(\s|.,!?…。，、।۔،)]+");
/// The letters of deepseek-llm: those of Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee and the like.
const DEEPSEEK_LETTERS: &str = concat!(
    "\\s?[",
    "A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}",
    "\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}",
    "\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}",
    "\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}",
    "\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}",
    "\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}",
    "\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}",
    "\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}",
    "\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}",
    "\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}",
    "\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}",
    "\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}",
    "\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}",
    "\u{1e900}-\u{1e943}",
    "]+"
);

/// Possessive repetitions after which nothing could match what they keep, and the same as greedy ones.
const POSSESSIVE: &[(&str, &str)] = &[
    (r"[^\r\n\p{L}\p{N}]?+\p{L}++", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"[^\r\n\p{L}\p{N}]?\p{L}+"),
    (r"|\p{N}{1,3}+|", r"|\p{N}{1,3}|"),
    (r"[^\s\p{L}\p{N}]++[\r\n]*+|", r"[^\s\p{L}\p{N}]+[\r\n]*|"),
    (r"[^\s\p{L}\p{N}]++[\r\n]*|", r"[^\s\p{L}\p{N}]+[\r\n]*|"),
    (r"|\s++$|", r"|\s+$|"),
];

/// The rules that go by a name in `tokenizer.ggml.pre`; each cuts the pieces of the one before. Where ggml can't say
/// what a family's own tokenizer.json says (tekken, gpt-4o), the latter holds.
type Named = (&'static [&'static str], &'static [(bool, &'static str)]);
const RULES: &[Named] = &[
    (&["default"], &[(PLAIN, r"[\p{P}\$\+<=>\^~\|]+"), GPT2, (PLAIN, r"\p{N}+"), (PLAIN, "[0-9][0-9][0-9]")]),
    (
        &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
        ],
        &[GPT2],
    ),
    (
        &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
            "dbrx",
            "smaug-bpe",
            "glm4",
            "glm5",
            "chatglm-bpe",
        ],
        &[LLAMA3],
    ),
    (
        &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2", "hunyuan", "solar-open", "megrez", "grok-2"],
        &[QWEN2],
    ),
    (
        &["qwen35"],
        &[(
            SPACED,
            concat!(
                contractions!(),
                r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
            ),
        )],
    ),
    (
        &["bailingmoe", "bailingmoe2", "llada-moe"],
        &[(SPACED, concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]"))],
    ),
    (
        &["seed-coder"],
        &[(SPACED, concat!(contractions!(), r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+"))],
    ),
    (
        &["exaone-moe"],
        &[(
            SPACED,
            concat!(
                contractions!(),
                r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]"
            ),
        )],
    ),
    (&["ufakzeka"], &[(SPACED, r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+")]),
    (&["laguna"], &[LINES, QWEN2]),
    (&["minicpm5"], &[(PLAIN, r"\p{N}{1,3}"), words!("+")]),
    (&["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"], &[DIGIT, GPT2]),
    (&["falcon"], &[(PLAIN, r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, (PLAIN, "[0-9][0-9][0-9]")]),
    (
        &["deepseek-llm"],
        &[
            (PLAIN, r"[\r\n]"),
            (PLAIN, DEEPSEEK_LETTERS),
            (PLAIN, "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+"),
            (PLAIN, r"\s+$"),
            HAN_AND_HANGUL,
            (PLAIN, r"\p{N}+"),
        ],
    ),
    (&["deepseek-coder"], &[(PLAIN, r"[\r\n]"), (PLAIN, r"\s?\p{L}+"), (PLAIN, r"\s?\p{P}+"), HAN_AND_HANGUL, DIGIT]),
    (&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], &[(PLAIN, r"\p{N}{1,3}"), CJK, DEEPSEEK3]),
    (&["tekken", "mistral-nemo"], &[(SPACED, concat!(cased!(""), r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"))]),
    (
        &["gpt-4o", "o200k", "llama4", "kanana2", "talkie", "minimax-m2"],
        &[(
            SPACED,
            concat!(
                cased!(concat!("(?:", contractions!(), ")?")),
                r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
            ),
        )],
    ),
    (
        &["kimi-k2"],
        &[(SPACED, concat!(r"\p{Han}+|", cased_but_han!(), r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"))],
    ),
    (&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    (&["viking"], &[BLOOM, DIGIT]),
    (
        &["chameleon"],
        &[
            (PLAIN, "<sentinel:[0-9]+>"),
            (PLAIN, "IMGIMG[A-I]{1,4}Z"),
            (PLAIN, r"[\t\n]|    |  "),
            DIGIT,
            (PLAIN, r"[\p{P}!-/:-@\[-`{-~]"),
            GPT2,
        ],
    ),
];

/// One rule.
#[derive(Clone, Debug)]
struct Rule {
    /// Pattern 0 is the rule's own; pattern 1, where there is one, is the white space that is left.
    regex: Regex,
    spaced: bool,
}

impl Rule {
    fn new(spaced: bool, pattern: &str) -> Result<Rule, String> {
        let patterns: &[&str] = if spaced { &[pattern, r"\s+"] } else { &[pattern] };
        let config = Regex::config().nfa_size_limit(Some(16 << 20)).hybrid_cache_capacity(4 << 20);
        let syntax = syntax::Config::new().nest_limit(64);
        let regex = Regex::builder().configure(config).syntax(syntax).build_many(patterns);
        let why = |e: regex_automata::meta::BuildError| match e.syntax_error() {
            Some(syntax) => syntax.to_string(),
            None => e.to_string(),
        };
        Ok(Rule { regex: regex.map_err(why)?, spaced })
    }
}

/// How a text is cut.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    rules: Vec<Rule>,
}

/// The names that `Splitter::named` knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().flat_map(|(names, _)| names.iter().copied())
}

impl Splitter {
    /// The rules that go by `name` in `tokenizer.ggml.pre`; `None` for a name that isn't known.
    pub fn named(name: &str) -> Option<Splitter> {
        let (_, rules) = RULES.iter().find(|(names, _)| names.contains(&name))?;
        let mut splitter = Splitter::default();
        for (spaced, pattern) in *rules {
            splitter.rule(*spaced, pattern).expect("the table's patterns are well formed");
        }
        Some(splitter)
    }

    /// GPT-2's rule goes after the others.
    pub fn gpt2(&mut self) {
        static MADE: OnceLock<Rule> = OnceLock::new();
        let make = || Rule::new(GPT2.0, GPT2.1).expect("it is well formed");
        self.rules.push(MADE.get_or_init(make).clone());
    }

    /// A regular expression of tokenizer.json goes after the other rules. `|\s+(?!\S)|\s+` at the end is the one
    /// look-ahead that is known, and the possessive repetitions of cl100k, which mean what greedy ones do, are the only
    /// ones.
    ///
    /// # Errors
    /// Why it is none that takes linear time.
    pub fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        let mut greedy = pattern.to_string();
        for (possessive, same) in POSSESSIVE {
            greedy = greedy.replace(possessive, same);
        }
        if is_possessive(&greedy) {
            return Err("it has possessive repetitions, of which only those of cl100k are known".into());
        }
        let endings = [r"|\s+(?!\S)|\s+", r"|\s+(?!\S)", r"|\s+(?!\S)|\s"];
        match endings.iter().find_map(|ending| greedy.strip_suffix(ending)) {
            Some(own) => self.rule(SPACED, own),
            None => self.rule(PLAIN, &greedy),
        }
    }

    /// Whether a rule matches the empty text.
    pub fn matches_nothing(&self) -> bool {
        self.rules.iter().any(|rule| rule.regex.is_match(""))
    }

    fn rule(&mut self, spaced: bool, pattern: &str) -> Result<(), String> {
        self.rules.push(Rule::new(spaced, pattern)?);
        Ok(())
    }

    /// Cuts `text`, in order and without a rest.
    pub fn split<'t>(&self, text: &'t str, piece: &mut dyn FnMut(&'t str)) {
        cut(&self.rules, text, piece);
    }
}

/// Whether a repetition is followed by the plus that keeps what it has.
fn is_possessive(pattern: &str) -> bool {
    let (mut in_class, mut escaped) = (false, false);
    let mut last = [' '; 2];
    for c in pattern.chars() {
        let counted = last[1] == '}' && (last[0].is_ascii_digit() || last[0] == ',');
        if c == '+' && !in_class && (matches!(last[1], '?' | '*' | '+') || counted) {
            return true;
        }
        let plain = !escaped;
        escaped = plain && c == '\\';
        in_class = (in_class || (plain && c == '[')) && !(plain && c == ']');
        // What is escaped repeats nothing.
        last = [last[1], if plain { c } else { ' ' }];
    }
    false
}

fn cut<'t>(rules: &[Rule], text: &'t str, piece: &mut dyn FnMut(&'t str)) {
    let Some((rule, rest)) = rules.split_first() else {
        if !text.is_empty() {
            piece(text);
        }
        return;
    };
    let mut part = |from: usize, to: usize| {
        if let Some(part) = text.get(from..to).filter(|part| !part.is_empty()) {
            cut(rest, part, piece);
        }
    };
    // What was cut off last ends at `at`; what no rule matches is between there and the next match.
    let (mut at, mut search) = (0, 0);
    while search < text.len() {
        let anchored = if rule.spaced { Anchored::Yes } else { Anchored::No };
        let Some(found) = rule.regex.search(&Input::new(text).range(search..).anchored(anchored)) else {
            if !rule.spaced {
                break;
            }
            search = after_one(text, search);
            continue;
        };
        let end =
            if found.pattern().as_usize() == 1 { before_a_word(text, found.start(), found.end()) } else { found.end() };
        if end == found.start() {
            search = after_one(text, end.max(search));
            continue;
        }
        part(at, found.start());
        part(found.start(), end);
        (at, search) = (end, end);
    }
    part(at, text.len());
}

/// White space from `start` to `end` without its last character, where a word follows and more than that one is left.
fn before_a_word(text: &str, start: usize, end: usize) -> usize {
    let last = text.get(start..end).and_then(|space| space.char_indices().next_back());
    match last {
        Some((length, _)) if length > 0 && end < text.len() => start + length,
        _ => end,
    }
}

fn after_one(text: &str, at: usize) -> usize {
    at + text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(name: &str, text: &str) -> Vec<String> {
        let mut all = Vec::new();
        Splitter::named(name).unwrap().split(text, &mut |piece| all.push(piece.to_string()));
        all
    }

    #[test]
    fn every_rule_gives_back_the_text() {
        let text = "It's  a TEST of 12345 things,\t\n\n  aren't they?  \u{1F600}\u{732b}\u{732b} Été naïve \u{a0}x\r\n\r\n end  ";
        for name in names() {
            assert_eq!(pieces(name, text).concat(), text, "{name}");
            assert_eq!(pieces(name, "").len(), 0, "{name}");
        }
        assert!(Splitter::named("unheard-of").is_none());
    }

    #[test]
    fn patterns_of_files_are_known_by_their_form() {
        let cl100k = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
        for pattern in [cl100k, r"[?+]", r"\p{L}+", r"\++", r"a|\s+(?!\S)|\s+"] {
            Splitter::default().pattern(pattern).unwrap();
        }
        for pattern in ["a?+b", "a++", "a{1,3}+", "(?=a)", "(a"] {
            assert!(Splitter::default().pattern(pattern).is_err(), "{pattern}");
        }
        let mut all = Vec::new();
        let mut splitter = Splitter::default();
        splitter.pattern(cl100k).unwrap();
        splitter.split("It'LL  be 12345!\n\n x  ", &mut |piece| all.push(piece.to_string()));
        assert_eq!(all, ["It", "'LL", " ", " be", " ", "123", "45", "!\n\n", " x", "  "]);
    }

    #[test]
    fn words_are_cut_as_each_family_does() {
        assert_eq!(pieces("gpt-2", "it's  a\n\n b 123x "), ["it", "'s", " ", " a", "\n\n", " b", " 123", "x", " "]);
        assert_eq!(pieces("llama-bpe", "It'S  a\n\n b 12345"), ["It", "'S", " ", " a", "\n\n", " b", " ", "123", "45"]);
        assert_eq!(pieces("qwen2", "a!!\nb 12"), ["a", "!!\n", "b", " ", "1", "2"]);
        assert_eq!(pieces("starcoder", "x12 y"), ["x", "1", "2", " y"]);
        assert_eq!(pieces("gpt-4o", "helloWorld's X"), ["hello", "World's", " X"]);
        assert_eq!(pieces("tekken", "helloWorld's X1"), ["hello", "World", "'s", " X", "1"]);
        assert_eq!(pieces("deepseek-v3", "a_b 1234 \u{732b}"), ["a", "_b", " ", "123", "4", " ", "\u{732b}"]);
        assert_eq!(pieces("deepseek-llm", "ab  cd  "), ["ab", " ", " cd", "  "]);
        assert_eq!(pieces("default", "a.b 1234"), ["a", ".", "b", " ", "123", "4"]);
        assert_eq!(pieces("kimi-k2", "getName\u{732b}\u{732b}x"), ["get", "Name", "\u{732b}\u{732b}", "x"]);
        assert_eq!(pieces("falcon", "a`b 12345"), ["a", "`", "b", " ", "123", "45"]);
    }
}
