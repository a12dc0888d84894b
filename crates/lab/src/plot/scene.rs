//! A picture as plain data: lines, boxes, dots and text on a white page, written as SVG or handed to `png`.

use std::fmt::Write;

/// Red, green, blue.
pub type Color = [u8; 3];

/// Where a text's point lies in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// A box: left, top, width, height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Frame {
    /// Left edge.
    pub x: f64,
    /// Upper edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// One thing in a picture; lengths are in pixels of the SVG, colors are without transparency.
#[derive(Clone, Debug)]
pub enum Item {
    /// A line through points.
    Line {
        /// Its points.
        points: Vec<(f64, f64)>,
        /// Its color.
        color: Color,
        /// Its width.
        width: f64,
        /// Lengths of dashes and of the gaps between them.
        dash: Option<f64>,
        /// It is seen in this box only, or everywhere.
        clip: Option<Frame>,
    },
    /// A filled box.
    Box {
        /// Where.
        frame: Frame,
        /// Its color.
        fill: Color,
    },
    /// A filled circle.
    Dot {
        /// Its middle.
        at: (f64, f64),
        /// Its radius.
        radius: f64,
        /// Its color.
        color: Color,
    },
    /// A line of text.
    Text {
        /// Where its anchor lies: on the base line.
        at: (f64, f64),
        /// The text.
        text: String,
        /// Its size (em).
        size: f64,
        /// Which end of it lies there.
        anchor: Anchor,
        /// Its color.
        color: Color,
        /// It reads upwards.
        upwards: bool,
    },
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What is in it, the hindmost first.
    pub items: Vec<Item>,
}

impl Scene {
    /// An empty page.
    pub fn new(width: f64, height: f64) -> Scene {
        Scene { width, height, items: Vec::new() }
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), color: Color, width: f64) {
        self.items.push(Item::Line { points: vec![from, to], color, width, dash: None, clip: None });
    }

    /// A line of text that reads from left to right.
    pub fn text(&mut self, at: (f64, f64), text: impl Into<String>, size: f64, anchor: Anchor, color: Color) {
        self.items.push(Item::Text { at, text: text.into(), size, anchor, color, upwards: false });
    }

    /// The picture as SVG.
    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans, Verdana, Helvetica, Arial, sans-serif\">\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        for (i, item) in self.items.iter().enumerate() {
            // A string takes whatever is written to it.
            let _ = write_item(&mut out, item, i);
        }
        out.push_str("</svg>\n");
        out
    }
}

fn write_item(out: &mut String, item: &Item, i: usize) -> std::fmt::Result {
    match item {
        Item::Line { points, color, width, dash, clip } => {
            if let Some(clip) = clip {
                write!(out, "<clipPath id=\"c{i}\">")?;
                write_frame(out, clip)?;
                writeln!(out, "/></clipPath>")?;
            }
            write!(out, "<polyline points=\"")?;
            points.iter().try_for_each(|(x, y)| write!(out, "{x:.1},{y:.1} "))?;
            write!(
                out,
                "\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"",
                hex(color)
            )?;
            if let Some(dash) = dash {
                write!(out, " stroke-dasharray=\"{dash}\"")?;
            }
            if clip.is_some() {
                write!(out, " clip-path=\"url(#c{i})\"")?;
            }
            writeln!(out, "/>")
        }
        Item::Box { frame, fill } => {
            write_frame(out, frame)?;
            writeln!(out, " fill=\"{}\"/>", hex(fill))
        }
        Item::Dot { at: (x, y), radius, color } => {
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>", hex(color))
        }
        Item::Text { at: (x, y), text, size, anchor, color, upwards } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let turn = if *upwards { format!(" transform=\"rotate(-90 {x:.1} {y:.1})\"") } else { String::new() };
            let (fill, text) = (hex(color), escaped(text));
            writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\"{turn}>{text}</text>"
            )
        }
    }
}

fn write_frame(out: &mut String, f: &Frame) -> std::fmt::Result {
    write!(out, "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"", f.x, f.y, f.width, f.height)
}

fn hex([r, g, b]: &Color) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Text as XML holds it; what XML can't hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A color mixed with white: 0 is the color, 1 is white.
pub fn lighter(color: Color, share: f64) -> Color {
    color.map(|c| (f64::from(c) + (255.0 - f64::from(c)) * share).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        let mut scene = Scene::new(10.0, 10.0);
        scene.text((1.0, 2.0), "a<b & \"c\"\u{1b}", 9.0, Anchor::Start, [1, 2, 255]);
        let svg = scene.svg();
        assert!(svg.contains("fill=\"#0102ff\">a&lt;b &amp; \"c\"</text>"), "{svg}");
    }
}
