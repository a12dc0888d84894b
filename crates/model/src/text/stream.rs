//! Text that arrives token by token: bytes are held back until they are whole characters.
#![forbid(unsafe_code)]

/// Bytes of a character that isn't whole yet.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    held: Vec<u8>,
}

impl Stream {
    /// What can be shown once `bytes` have come. Bytes that can't be part of any character give U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.held.clear();
                    return text;
                }
                Err(e) => {
                    let (whole, rest) = self.held.split_at(e.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(whole));
                    let Some(wrong) = e.error_len() else {
                        self.held = rest.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.held = rest.get(wrong..).unwrap_or_default().to_vec();
                }
            }
        }
    }

    /// What is left when nothing more comes.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let text = "a\u{e9}\u{732b}\u{1F600}z";
        let mut stream = Stream::default();
        let parts: Vec<String> = text.bytes().map(|byte| stream.push(&[byte])).collect();
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| !part.contains(char::REPLACEMENT_CHARACTER)));
        assert_eq!(parts.iter().filter(|part| part.is_empty()).count(), 1 + 2 + 3);
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_are_marked_once_it_is_sure() {
        let mut stream = Stream::default();
        assert_eq!(stream.push(b"a\xffb"), "a\u{fffd}b");
        assert_eq!(stream.push(b"\xe7"), "");
        assert_eq!(stream.push(b"x"), "\u{fffd}x");
        assert_eq!(stream.push(b"\xf0\x9f"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
