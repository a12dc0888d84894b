//! A template's source into tokens, with jinja2's rules of white space (`trim_blocks` and `lstrip_blocks` on).

use super::error::{At, Error, Kind, Result};
use super::strings::is_space;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Text between the tags.
    Data(String),
    /// `{%` and `%}`, `{{` and `}}`.
    BlockBegin,
    BlockEnd,
    VariableBegin,
    VariableEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Op(&'static str),
    End,
}

/// Longest first.
const OPERATORS: [&str; 26] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "<", ">", "=", ".", ":", "|", ",", ";", "(", ")",
    "[", "]", "{", "}",
];

/// All tokens of `source`, each with its place; the last is `End`.
pub(super) fn tokens(source: &str) -> Result<Vec<(Token, At)>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    // As `keep_trailing_newline = False` has it.
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { rest: &source, at: At { line: 1, column: 1 }, starts_line: true, tokens: Vec::new() };
    lexer.all()?;
    let at = lexer.at;
    let mut tokens = lexer.tokens;
    tokens.push((Token::End, at));
    Ok(tokens)
}

struct Lexer<'a> {
    rest: &'a str,
    at: At,
    /// Whether what was read last ended with a line's end.
    starts_line: bool,
    tokens: Vec<(Token, At)>,
}

impl<'a> Lexer<'a> {
    fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::new(Kind::Syntax, message).or_at(self.at))
    }

    /// Takes the first `bytes` bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        for c in taken.chars() {
            if c == '\n' {
                self.at = At { line: self.at.line.saturating_add(1), column: 1 };
            } else {
                self.at.column = self.at.column.saturating_add(1);
            }
        }
        if let Some(last) = taken.chars().next_back() {
            self.starts_line = last == '\n';
        }
        taken
    }

    fn skip_space(&mut self) {
        let bytes = self.rest.len() - self.rest.trim_start_matches(is_space).len();
        self.take(bytes);
    }

    fn all(&mut self) -> Result<()> {
        while !self.rest.is_empty() {
            let begin = self.next_tag();
            let Some((begin, tag)) = begin else {
                let (text, at) = (self.rest, self.at);
                self.take(text.len());
                self.data(text, at);
                return Ok(());
            };
            let after = self.rest.get(begin + 2..).unwrap_or_default();
            self.text_before(begin, tag, after);
            let at = self.at;
            match tag {
                "{#" => self.comment()?,
                "{%" if raw_bytes(self.rest, "raw").is_some() => self.raw(at)?,
                "{%" => self.tag(at, Token::BlockBegin, Token::BlockEnd)?,
                _ => self.tag(at, Token::VariableBegin, Token::VariableEnd)?,
            }
        }
        Ok(())
    }

    fn next_tag(&self) -> Option<(usize, &'static str)> {
        let mut from = 0;
        loop {
            let begin = from + self.rest.get(from..)?.find('{')?;
            let rest = self.rest.get(begin..)?;
            if let Some(tag) = ["{#", "{%", "{{"].into_iter().find(|tag| rest.starts_with(tag)) {
                return Some((begin, tag));
            }
            from = begin + 1;
        }
    }

    fn data(&mut self, text: &str, at: At) {
        if !text.is_empty() {
            self.tokens.push((Token::Data(text.into()), at));
        }
    }

    /// The text up to the tag that begins `begin` bytes on, without the white space that the tag takes away.
    fn text_before(&mut self, begin: usize, tag: &str, after: &str) {
        let (starts_line, at) = (self.starts_line, self.at);
        let text = self.take(begin);
        self.data(stripped(text, tag, after, starts_line), at);
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest.get(2..).and_then(|rest| rest.find("#}")) else {
            return self.error("a comment `{#` has no end `#}`");
        };
        let inside = self.take(end + 2);
        // The sign of `{#-#}` is that of its begin.
        let said = inside.get(2..).map(|said| said.strip_prefix(['-', '+']).unwrap_or(said));
        let sign = said.and_then(|said| said.chars().next_back());
        self.close(sign.filter(|s| "+-".contains(*s)), true);
        Ok(())
    }

    /// Takes the two characters that end a tag, and the white space that goes with them.
    fn close(&mut self, sign: Option<char>, is_block: bool) {
        self.take(2);
        match sign {
            Some('-') => self.skip_space(),
            None if is_block && self.rest.starts_with('\n') => {
                self.take(1);
            }
            _ => {}
        }
    }

    fn raw(&mut self, at: At) -> Result<()> {
        let bytes = raw_bytes(self.rest, "raw").unwrap_or(0);
        let begin = self.take(bytes);
        if begin.ends_with("-%}") {
            self.skip_space();
        }
        let mut from = 0;
        let (start, bytes) = loop {
            let found = self.rest.get(from..).and_then(|rest| rest.find("{%"));
            let Some(found) = found else {
                return Err(Error::new(Kind::Syntax, "`{% raw %}` has no `{% endraw %}`").or_at(at));
            };
            let start = from + found;
            match self.rest.get(start..).and_then(|rest| raw_bytes(rest, "endraw")) {
                Some(bytes) => break (start, bytes),
                None => from = start + 2,
            }
        };
        let after = self.rest.get(start + 2..).unwrap_or_default();
        self.text_before(start, "{%", after);
        let end = self.take(bytes.saturating_sub(2));
        let sign = end.chars().next_back().filter(|s| "+-".contains(*s));
        self.close(sign, true);
        Ok(())
    }

    /// A tag with its expression or statement.
    fn tag(&mut self, at: At, begin: Token, end: Token) -> Result<()> {
        self.take(2);
        if self.rest.starts_with(['-', '+']) {
            self.take(1);
        }
        let is_block = begin == Token::BlockBegin;
        let close = if is_block { "%}" } else { "}}" };
        self.tokens.push((begin, at));
        let mut brackets: Vec<char> = Vec::new();
        loop {
            self.skip_space();
            if brackets.is_empty() {
                let rest = self.rest;
                let signed = rest.strip_prefix('-').map(|r| (r, '-'));
                let signed = signed.or_else(|| rest.strip_prefix('+').filter(|_| is_block).map(|r| (r, '+')));
                if let Some((_, sign)) = signed.filter(|(r, _)| r.starts_with(close)) {
                    self.tokens.push((end, self.at));
                    self.take(1);
                    self.close(Some(sign), is_block);
                    return Ok(());
                }
                if rest.starts_with(close) {
                    self.tokens.push((end, self.at));
                    self.close(None, is_block);
                    return Ok(());
                }
            }
            if self.rest.is_empty() {
                let what = if is_block { "{%" } else { "{{" };
                return Err(Error::new(Kind::Syntax, format!("the tag `{what}` has no end `{close}`")).or_at(at));
            }
            self.token(&mut brackets)?;
        }
    }

    fn token(&mut self, brackets: &mut Vec<char>) -> Result<()> {
        let (at, rest) = (self.at, self.rest);
        let Some(first) = rest.chars().next() else { return Ok(()) };
        if first == '"' || first == '\'' {
            let text = self.string(first)?;
            self.tokens.push((Token::Str(text), at));
        } else if first.is_ascii_digit() {
            let after_dot = matches!(self.tokens.last(), Some((Token::Op("."), _)));
            let token = self.number(after_dot)?;
            self.tokens.push((token, at));
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let name = self.take(end);
            self.tokens.push((Token::Name(name.into()), at));
        } else if let Some(op) = OPERATORS.into_iter().find(|op| rest.starts_with(op)) {
            match op {
                "(" => brackets.push(')'),
                "[" => brackets.push(']'),
                "{" => brackets.push('}'),
                ")" | "]" | "}" if brackets.pop() != Some(first) => {
                    return self.error(format!("`{op}` closes what wasn't opened"));
                }
                _ => {}
            }
            self.take(op.len());
            self.tokens.push((Token::Op(op), at));
        } else {
            return self.error(format!("unexpected character {first:?}"));
        }
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        chars.next();
        while let Some((i, c)) = chars.next() {
            if c == quote {
                self.take(i + 1);
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((_, escape)) = chars.next() else { break };
            let simple = match escape {
                '\n' => continue,
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\x07',
                'b' => '\x08',
                'f' => '\x0c',
                'v' => '\x0b',
                '\\' | '\'' | '"' => escape,
                'x' | 'u' | 'U' | '0'..='7' => {
                    let (radix, most) = match escape {
                        'x' => (16, 2),
                        'u' => (16, 4),
                        'U' => (16, 8),
                        _ => (8, 2),
                    };
                    let digits: String = chars.as_str().chars().take(most).take_while(|d| d.is_digit(radix)).collect();
                    if radix == 16 && digits.len() < most {
                        return self.error(format!("`\\{escape}` in a string needs {most} hexadecimal digits"));
                    }
                    chars.by_ref().take(digits.len()).for_each(drop);
                    let digits = if radix == 8 { format!("{escape}{digits}") } else { digits };
                    match u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32) {
                        Some(c) => c,
                        None => return self.error(format!("`\\{escape}{digits}` in a string is no character")),
                    }
                }
                'N' => {
                    return self.error("`\\N` in a string: write the character itself, or its number as in `\\u2022`");
                }
                other if other.is_ascii() => {
                    text.push('\\');
                    other
                }
                // Python has made ASCII of it before it looks for escapes.
                other => {
                    super::value::escape(other, &mut text);
                    continue;
                }
            };
            text.push(simple);
        }
        self.error("a string has no end")
    }

    /// A number as far as one goes; behind a dot it is an index, and has no fraction.
    fn number(&mut self, after_dot: bool) -> Result<Token> {
        let rest = self.rest;
        let radix = match rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let prefixed = rest.get(2..).unwrap_or_default();
        let gap = usize::from(prefixed.starts_with('_'));
        let end = digits(prefixed.get(gap..).unwrap_or_default(), |c| c.is_digit(radix));
        if radix != 10 && end > 0 {
            let text = prefixed.get(..gap + end).unwrap_or_default().replace('_', "");
            let value = i128::from_str_radix(&text, radix);
            self.take(2 + gap + end);
            return value
                .map(Token::Int)
                .or_else(|_| self.error("a number that can't be read: whole numbers have at most 127 bits"));
        }
        let decimal = |text: &str| digits(text, |c| c.is_ascii_digit());
        let whole = decimal(rest);
        let after = |end: usize| if after_dot { "" } else { rest.get(end..).unwrap_or_default() };
        let fraction = after(whole).strip_prefix('.').map_or(0, decimal);
        let mut end = whole + if fraction > 0 { 1 + fraction } else { 0 };
        if let Some(exponent) = after(end).strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let places = decimal(unsigned);
            end += if places > 0 { 1 + (exponent.len() - unsigned.len()) + places } else { 0 };
        }
        let is_float = end > whole;
        // No whole number but 0 starts with 0: what follows is another one, which has no business there.
        if !is_float && rest.starts_with('0') {
            end = digits(rest, |c| c == '0');
        }
        let text = rest.get(..end).unwrap_or_default().replace('_', "");
        let token = match is_float {
            true => text.parse().ok().map(Token::Float),
            false => text.parse().ok().map(Token::Int),
        };
        match token {
            Some(token) => {
                self.take(end);
                Ok(token)
            }
            None => self.error("a number that can't be read: whole numbers have at most 127 bits"),
        }
    }
}

/// How many bytes of digits `text` starts with; there may be one `_` between two.
fn digits(text: &str, is_digit: impl Fn(char) -> bool) -> usize {
    let mut end = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        if is_digit(c) {
            end = i + 1;
        } else if c != '_' || end != i || i == 0 || !chars.peek().is_some_and(|(_, next)| is_digit(*next)) {
            break;
        }
    }
    end
}

/// `text` without the white space at its end that the tag after it takes: all for `{%-`, the indentation for `{%`.
fn stripped<'a>(text: &'a str, tag: &str, after: &str, starts_line: bool) -> &'a str {
    if after.starts_with('-') {
        return text.trim_end_matches(is_space);
    }
    if after.starts_with('+') || tag == "{{" {
        return text;
    }
    let line = text.rfind('\n').map_or(0, |i| i + 1);
    let is_blank = text.get(line..).is_some_and(|rest| rest.chars().all(is_space));
    if (line > 0 || starts_line) && is_blank { text.get(..line).unwrap_or(text) } else { text }
}

/// The bytes of a `{% raw %}` or `{% endraw %}` that `text` starts with.
fn raw_bytes(text: &str, name: &str) -> Option<usize> {
    let rest = text.strip_prefix("{%")?;
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_start();
    let rest = rest.strip_prefix(name)?.trim_start();
    let signed = rest.strip_prefix('-').or_else(|| rest.strip_prefix('+').filter(|_| name == "endraw"));
    let rest = signed.unwrap_or(rest).strip_prefix("%}")?;
    Some(text.len() - rest.len())
}
