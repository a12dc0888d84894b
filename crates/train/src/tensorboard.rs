//! Event files as TensorBoard reads them: records of TFRecord's framing, each an `Event` in protobuf's wire format.
//!
//! Source: `tensorflow/core/lib/io/record_writer` (length, its masked CRC-32C, data, its masked CRC-32C) and
//! `tensorflow/core/util/event.proto`, `framework/summary.proto` (field numbers).
#![forbid(unsafe_code)]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use tensor::file::disk::{self, File};

/// An open event file.
pub struct Events {
    file: BufWriter<File>,
    event: Vec<u8>,
    summary: Vec<u8>,
    value: Vec<u8>,
    checksum: Checksum,
}

impl Events {
    /// Begins a new file in `folder`, which is made where there is none. What other files there say of steps from
    /// `step` + 1 on is declared void, since those steps are done again.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn create(folder: &Path, step: usize) -> std::io::Result<Events> {
        disk::create_folders(folder)?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        // Two files of one second, such as of a run that goes on at once, keep apart.
        let name = |i: u32| folder.join(format!("events.out.tfevents.{seconds:010}.rondo.{}.{i}", std::process::id()));
        let path = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
        let file = BufWriter::with_capacity(1 << 16, File::create(&path)?);
        let buffer = || Vec::with_capacity(256);
        let mut events =
            Events { file, event: buffer(), summary: buffer(), value: buffer(), checksum: Checksum::new() };
        events.begin(now(), 0);
        put_bytes(&mut events.event, 3, b"brain.Event:2");
        events.finish()?;
        if step > 0 {
            events.begin(now(), step as u64 + 1);
            // A session log whose status (field 1) is START (1).
            put_bytes(&mut events.event, 7, &[1 << 3, 1]);
            events.finish()?;
        }
        Ok(events)
    }

    /// Adds the values of a step under their names. Nothing is allocated.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&mut self, step: usize, values: &[(&str, f32)]) -> std::io::Result<()> {
        self.write_at(now(), step, values)
    }

    fn write_at(&mut self, seconds: f64, step: usize, values: &[(&str, f32)]) -> std::io::Result<()> {
        self.begin(seconds, step as u64);
        self.summary.clear();
        for (name, number) in values {
            self.value.clear();
            put_bytes(&mut self.value, 1, name.as_bytes());
            self.value.push(2 << 3 | 5);
            self.value.extend_from_slice(&number.to_le_bytes());
            put_bytes(&mut self.summary, 1, &self.value);
        }
        put_bytes(&mut self.event, 5, &self.summary);
        self.finish()
    }

    /// Hands all events to the system.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }

    fn begin(&mut self, seconds: f64, step: u64) {
        self.event.clear();
        self.event.push(1 << 3 | 1);
        self.event.extend_from_slice(&seconds.to_le_bytes());
        self.event.push(2 << 3);
        put_number(&mut self.event, step);
    }

    fn finish(&mut self) -> std::io::Result<()> {
        let length = (self.event.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&self.checksum.masked(&length).to_le_bytes())?;
        self.file.write_all(&self.event)?;
        self.file.write_all(&self.checksum.masked(&self.event).to_le_bytes())
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

/// A number of seven bits a byte, the lowest first.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A field that is text or a message.
fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// CRC-32C (Castagnoli; RFC 3720, B.4).
struct Checksum([u32; 256]);

impl Checksum {
    fn new() -> Checksum {
        Checksum(std::array::from_fn(|i| {
            (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0x82f6_3b78 ^ (c >> 1) } else { c >> 1 })
        }))
    }

    fn of(&self, bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |sum: u32, b| self.0[((sum ^ u32::from(*b)) & 255) as usize] ^ (sum >> 8))
    }

    /// As TFRecord stores it: turned by 15 bits, plus a constant, so that sums of sums don't cancel.
    fn masked(&self, bytes: &[u8]) -> u32 {
        self.of(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        let sum = Checksum::new();
        assert_eq!(sum.of(b"123456789"), 0xe306_9283);
        assert_eq!(sum.of(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn an_event_has_known_bytes() {
        let folder = std::env::temp_dir().join(format!("rondo-events-{}", std::process::id()));
        let mut events = Events::create(&folder, 0).unwrap();
        events.write_at(1.0, 300, &[("loss", 0.5)]).unwrap();
        events.flush().unwrap();
        let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        // 24 bytes of a time, a step and the version, framed by 16.
        let (first, second) = bytes.split_at(12 + 26 + 4);
        assert_eq!(
            (&first[..8], &first[23..25], &first[25..38]),
            (&26u64.to_le_bytes()[..], &[0x1a, 13][..], &b"brain.Event:2"[..])
        );
        let event = [
            &[0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02, 0x2a, 13, 0x0a, 11, 0x0a, 4][..],
            b"loss",
            &[0x15, 0, 0, 0, 0x3f],
        ]
        .concat();
        assert_eq!(second[..8], (event.len() as u64).to_le_bytes());
        assert_eq!(second[12..12 + event.len()], event[..]);
        let sum = Checksum::new();
        assert_eq!(second[8..12], sum.masked(&second[..8]).to_le_bytes());
        assert_eq!(second[12 + event.len()..], sum.masked(&event).to_le_bytes());
    }
}
