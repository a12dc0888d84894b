//! What a file is by its first bytes, whatever its name.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A GGUF file.
    Gguf,
    /// A safetensors file.
    Safetensors,
    /// Anything else, also what can't be read.
    Other,
}

impl Content {
    /// What the file at `path` holds.
    pub fn of(path: &Path) -> Content {
        // Opening a pipe would wait for its writer.
        let plain = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        let mut begin = Vec::new();
        let read = |begin: &mut Vec<u8>| File::open(path).and_then(|file| file.take(9).read_to_end(begin)).is_ok();
        if plain && read(&mut begin) { Content::of_bytes(&begin) } else { Content::Other }
    }

    /// What a file holds that begins with these bytes, of which nine are looked at.
    pub fn of_bytes(begin: &[u8]) -> Content {
        if begin.starts_with(b"GGUF") {
            return Content::Gguf;
        }
        match begin {
            // The header's length, then its JSON.
            [a, b, c, d, e, f, g, h, b'{', ..] => {
                let length = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                if (2..=1 << 32).contains(&length) { Content::Safetensors } else { Content::Other }
            }
            _ => Content::Other,
        }
    }
}

/// The name of a GGUF file in a folder: the first of them.
pub fn gguf_in(folder: &Path) -> Option<String> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.to_ascii_lowercase().ends_with(".gguf")).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let tensors = [16u64.to_le_bytes().as_slice(), b"{}              "].concat();
        for (bytes, content) in [
            (b"GGUF\x03\0\0\0{".as_slice(), Content::Gguf),
            (&tensors, Content::Safetensors),
            (&tensors[..8], Content::Other),
            (b"{\"a\": {}}", Content::Other),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{", Content::Other),
            (b"", Content::Other),
        ] {
            assert_eq!(Content::of_bytes(bytes), content, "{bytes:?}");
        }
        assert_eq!(Content::of(Path::new("/nowhere")), Content::Other);
        assert_eq!(Content::of(Path::new("/")), Content::Other);
    }
}
