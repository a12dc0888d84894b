//! Reads from a CUBIN (an ELF file) which kernels it holds and how many bytes of parameters each takes.
#![forbid(unsafe_code)]

/// Bytes of parameters that `__global__` function `entry` takes; `None` when the CUBIN has no such function.
pub fn parameter_bytes(cubin: &[u8], entry: &str) -> Option<u32> {
    let wanted = [".nv.info.", entry].concat();
    let mut at = section(cubin, wanted.as_bytes())?;
    // Records: a format byte, an attribute byte, and 16 bits that are a value or the size of what follows.
    while let [format, attribute, low, high, rest @ ..] = at {
        let value = u16::from_le_bytes([*low, *high]);
        const SIZED: u8 = 4;
        const PARAMETER_SIZE: u8 = 0x19;
        if *attribute == PARAMETER_SIZE && *format != SIZED {
            return Some(u32::from(value));
        }
        let skip = if *format == SIZED { usize::from(value) } else { 0 };
        at = rest.get(skip..)?;
    }
    // A function without parameters has no such record.
    Some(0)
}

/// The bytes of the ELF section of a name.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let table = usize::try_from(number(elf, 0x28, 8)?).ok()?;
    let entry_bytes = usize::try_from(number(elf, 0x3a, 2)?).ok()?;
    let count = usize::try_from(number(elf, 0x3c, 2)?).ok()?;
    let names_index = usize::try_from(number(elf, 0x3e, 2)?).ok()?;
    let header = |index: usize| elf.get(table.checked_add(index.checked_mul(entry_bytes)?)?..);
    let contents = |index: usize| {
        let header = header(index)?;
        let offset = usize::try_from(number(header, 0x18, 8)?).ok()?;
        let bytes = usize::try_from(number(header, 0x20, 8)?).ok()?;
        elf.get(offset..offset.checked_add(bytes)?)
    };
    let names = contents(names_index)?;
    (0..count).find_map(|index| {
        let start = usize::try_from(number(header(index)?, 0, 4)?).ok()?;
        let text = names.get(start..)?.split(|b| *b == 0).next()?;
        if text == name { contents(index) } else { None }
    })
}

/// The little-endian number of `bytes` bytes at `offset`.
fn number(data: &[u8], offset: usize, bytes: usize) -> Option<u64> {
    let part = data.get(offset..offset.checked_add(bytes)?)?;
    Some(part.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}
