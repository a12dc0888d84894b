//! A scene as PNG: smooth lines by their distance to each pixel, text from an embedded font, deflated rows.

use super::scene::{Anchor, Color, Frame, Item, Scene};
use ab_glyph::{Font, FontRef, PxScale, ScaleFont};

/// Pixels of the PNG to one of the scene.
const SCALE: f64 = 2.0;
/// How much work the compression takes, of 0 to 10.
const LEVEL: u8 = 5;

/// The scene as the bytes of a PNG file, twice as large as the SVG.
pub fn png(scene: &Scene) -> Vec<u8> {
    let mut page = Page::new((scene.width * SCALE) as usize, (scene.height * SCALE) as usize);
    for item in &scene.items {
        page.draw(item);
    }
    page.encode()
}

/// The width of a text of size 1.
pub fn text_width(text: &str) -> f64 {
    let font = font();
    let scaled = font.as_scaled(em(&font, 1.0));
    text.chars().map(|c| f64::from(scaled.h_advance(scaled.glyph_id(c)))).sum()
}

fn font() -> FontRef<'static> {
    FontRef::try_from_slice(dejavu::sans::regular()).expect("the embedded font is one")
}

/// The scale at which an em has `size` pixels.
fn em(font: &FontRef, size: f64) -> PxScale {
    let units = font.units_per_em().unwrap_or(2048.0);
    PxScale::from(size as f32 * font.height_unscaled() / units)
}

struct Page {
    width: usize,
    height: usize,
    /// Red, green, blue of each pixel, row by row.
    pixels: Vec<u8>,
    /// How much of each pixel a line covers; zero between lines.
    covered: Vec<f32>,
}

/// Rows and columns from the first to before the last.
struct Area {
    x: std::ops::Range<usize>,
    y: std::ops::Range<usize>,
}

impl Page {
    fn new(width: usize, height: usize) -> Page {
        Page { width, height, pixels: vec![255; 3 * width * height], covered: vec![0.0; width * height] }
    }

    fn draw(&mut self, item: &Item) {
        match item {
            Item::Line { points, color, width, dash, clip } => {
                let scaled: Vec<_> = points.iter().map(|(x, y)| (x * SCALE, y * SCALE)).collect();
                let pieces = dash.map_or_else(|| vec![scaled.clone()], |dash| dashes(&scaled, dash * SCALE));
                for piece in &pieces {
                    self.line(piece, width * SCALE / 2.0, *color, *clip);
                }
            }
            Item::Box { frame, fill } => {
                let area = self.area(frame.x, frame.y, frame.x + frame.width, frame.y + frame.height);
                for y in area.y {
                    area.x.clone().for_each(|x| self.blend(x, y, *fill, 1.0));
                }
            }
            Item::Dot { at: (x, y), radius, color } => {
                self.line(&[(x * SCALE, y * SCALE)], radius * SCALE, *color, None);
            }
            Item::Text { at, text, size, anchor, color, upwards } => {
                self.text((at.0 * SCALE, at.1 * SCALE), text, size * SCALE, *anchor, *color, *upwards);
            }
        }
    }

    /// The pixels between two corners of the scene.
    fn area(&self, left: f64, top: f64, right: f64, bottom: f64) -> Area {
        let at = |v: f64, most: usize| ((v * SCALE).round().max(0.0) as usize).min(most);
        Area { x: at(left, self.width)..at(right, self.width), y: at(top, self.height)..at(bottom, self.height) }
    }

    fn blend(&mut self, x: usize, y: usize, color: Color, share: f32) {
        let i = 3 * (y * self.width + x);
        for (old, new) in self.pixels[i..i + 3].iter_mut().zip(color) {
            *old = (f32::from(*old) + (f32::from(new) - f32::from(*old)) * share).round() as u8;
        }
    }

    /// All within `radius` of the line; a pixel that several segments touch is covered as by the nearest.
    fn line(&mut self, points: &[(f64, f64)], radius: f64, color: Color, clip: Option<Frame>) {
        let clip = clip.unwrap_or(Frame { x: 0.0, y: 0.0, width: self.width as f64, height: self.height as f64 });
        let area = self.area(clip.x, clip.y, clip.x + clip.width, clip.y + clip.height);
        let mut touched = Vec::new();
        let ends = |i: usize| (points[i], points[(i + 1).min(points.len() - 1)]);
        for i in 0..points.len().saturating_sub(1).max(1) {
            let ((x0, y0), (x1, y1)) = ends(i);
            let reach = radius + 1.0;
            let rows = within(y0.min(y1) - reach, y0.max(y1) + reach, &area.y);
            for y in rows {
                for x in columns((x0, y0), (x1, y1), y as f64 + 0.5, reach, &area.x) {
                    let far = distance((x as f64 + 0.5, y as f64 + 0.5), (x0, y0), (x1, y1));
                    let share = (radius + 0.5 - far).clamp(0.0, 1.0) as f32;
                    let covered = &mut self.covered[y * self.width + x];
                    if share > *covered {
                        if *covered == 0.0 {
                            touched.push((x, y));
                        }
                        *covered = share;
                    }
                }
            }
        }
        for (x, y) in touched {
            let share = std::mem::take(&mut self.covered[y * self.width + x]);
            self.blend(x, y, color, share);
        }
    }

    fn text(&mut self, at: (f64, f64), text: &str, size: f64, anchor: Anchor, color: Color, upwards: bool) {
        let font = font();
        let scale = em(&font, size);
        let shift = match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => 0.5,
            Anchor::End => 1.0,
        } * text_width(text)
            * size;
        let mut along = -shift;
        for c in text.chars() {
            let id = font.glyph_id(c);
            let start = if upwards { (0.0, 0.0) } else { (at.0 + along, at.1) };
            let glyph = id.with_scale_and_position(scale, ab_glyph::point(start.0 as f32, start.1 as f32));
            if let Some(outline) = font.outline_glyph(glyph) {
                let bounds = outline.px_bounds();
                outline.draw(|x, y, share| {
                    let (x, y) = (f64::from(bounds.min.x) + f64::from(x), f64::from(bounds.min.y) + f64::from(y));
                    // Upwards: what was to the right is above, what was above is to the left.
                    let (x, y) = if upwards { (at.0 + y, at.1 - along - x) } else { (x, y) };
                    if x >= 0.0 && y >= 0.0 && (x as usize) < self.width && (y as usize) < self.height {
                        self.blend(x as usize, y as usize, color, share.min(1.0));
                    }
                });
            }
            along += f64::from(font.as_scaled(scale).h_advance(id));
        }
    }

    fn encode(&self) -> Vec<u8> {
        let row = 3 * self.width;
        let mut raw = Vec::with_capacity((row + 1) * self.height);
        for line in self.pixels.chunks_exact(row) {
            // Filter 0: most rows of a plot repeat long runs of white as they are.
            raw.push(0);
            raw.extend_from_slice(line);
        }
        let mut header = Vec::new();
        header.extend_from_slice(&(self.width as u32).to_be_bytes());
        header.extend_from_slice(&(self.height as u32).to_be_bytes());
        // Eight bits, red green blue, and the only compression, filtering and order of rows there is.
        header.extend_from_slice(&[8, 2, 0, 0, 0]);
        let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
        chunk(&mut out, b"IHDR", &header);
        chunk(&mut out, b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(&raw, LEVEL));
        chunk(&mut out, b"IEND", &[]);
        out
    }
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
    let sum = crc32(&out[start..]);
    out.extend_from_slice(&sum.to_be_bytes());
}

/// The CRC-32 of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }));
    !bytes.iter().fold(!0, |sum: u32, b| table[((sum ^ u32::from(*b)) & 255) as usize] ^ (sum >> 8))
}

/// Whole numbers of `all` between two limits.
fn within(from: f64, to: f64, all: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = (from.floor().max(0.0) as usize).max(all.start);
    let end = (to.ceil().max(0.0) as usize).min(all.end);
    start..end.max(start)
}

/// The columns of a row that lie within `reach` of a segment, and a few more.
fn columns(
    (x0, y0): (f64, f64),
    (x1, y1): (f64, f64),
    y: f64,
    reach: f64,
    all: &std::ops::Range<usize>,
) -> std::ops::Range<usize> {
    let x_at = |y: f64| x0 + (x1 - x0) * ((y - y0) / (y1 - y0)).clamp(0.0, 1.0);
    if (y1 - y0).abs() < 1e-9 {
        return within(x0.min(x1) - reach, x0.max(x1) + reach, all);
    }
    let (a, b) = (x_at(y - reach), x_at(y + reach));
    within(a.min(b) - reach, a.max(b) + reach, all)
}

fn distance((px, py): (f64, f64), (x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> f64 {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let length = dx * dx + dy * dy;
    let t = if length > 0.0 { (((px - x0) * dx + (py - y0) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (px - x0 - t * dx).hypot(py - y0 - t * dy)
}

/// A line cut into dashes of `length` with gaps as long.
fn dashes(points: &[(f64, f64)], length: f64) -> Vec<Vec<(f64, f64)>> {
    let (mut pieces, mut piece, mut left, mut on) = (Vec::new(), Vec::new(), length, true);
    piece.extend(points.first().copied());
    for pair in points.windows(2) {
        let ((mut x, mut y), (x1, y1)) = (pair[0], pair[1]);
        loop {
            let rest = (x1 - x).hypot(y1 - y);
            if rest <= left {
                left -= rest;
                break;
            }
            (x, y) = (x + (x1 - x) * left / rest, y + (y1 - y) * left / rest);
            left = length;
            if on {
                piece.push((x, y));
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![(x, y)];
            }
            on = !on;
        }
        if on {
            piece.push((x1, y1));
        }
    }
    if on && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_png_is_whole() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let mut scene = Scene::new(40.0, 20.0);
        scene.line((0.0, 10.0), (40.0, 10.0), [255, 0, 0], 2.0);
        scene.text((20.0, 8.0), "loss", 8.0, Anchor::Middle, [0, 0, 0]);
        let bytes = png(&scene);
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(bytes[16..24], [0, 0, 0, 80, 0, 0, 0, 40]);
        let length = u32::from_be_bytes(bytes[33..37].try_into().unwrap()) as usize;
        let raw = miniz_oxide::inflate::decompress_to_vec_zlib(&bytes[41..41 + length]).unwrap();
        assert_eq!(raw.len(), 40 * (1 + 3 * 80));
        let pixel = |x: usize, y: usize| &raw[y * 241 + 1 + 3 * x..][..3];
        assert_eq!((pixel(5, 20), pixel(5, 30)), (&[255, 0, 0][..], &[255, 255, 255][..]));
        assert!((0..18).any(|y| (0..80).any(|x| pixel(x, y) == [0, 0, 0])), "no text is to be seen");
    }

    #[test]
    fn dashes_have_their_length() {
        let pieces = dashes(&[(0.0, 0.0), (10.0, 0.0)], 3.0);
        assert_eq!(pieces, [vec![(0.0, 0.0), (3.0, 0.0)], vec![(6.0, 0.0), (9.0, 0.0)]]);
    }
}
