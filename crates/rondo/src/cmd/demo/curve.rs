//! The loss curve in a terminal: dots of braille, two by four a character.

/// Characters of a line, and lines.
const SIZE: (usize, usize) = (60, 8);

/// The curve of `losses`, first to last, with a dashed line at `table`; nothing where fewer than two are finite.
pub fn curve(losses: &[f32], table: f64) -> Option<String> {
    let (width, height) = SIZE;
    let (columns, rows) = (2 * width, 4 * height);
    let means = means(losses, columns)?;
    let (low, high) = means.iter().fold((table, table), |(low, high), m| (low.min(*m), high.max(*m)));
    let row = |loss: f64| ((high - loss) / (high - low).max(1e-9) * (rows - 1) as f64).round() as usize;
    let mut dots = vec![0u8; width * height];
    for column in 0..columns {
        // From the dot before to this one, so that a steep fall is a line as well.
        let (to, from) = (row(means[column]), row(means[column.saturating_sub(1)]));
        for y in to.min(from)..=to.max(from) {
            dots[y / 4 * width + column / 2] |= bit(column % 2, y % 4);
        }
    }
    let dashed = row(table) / 4;
    let label = |line: usize| match line {
        _ if line == dashed => format!("{table:>6.2} ┤"),
        0 => format!("{high:>6.2} ┤"),
        _ if line + 1 == height => format!("{low:>6.2} ┤"),
        _ => format!("{:>6} │", ""),
    };
    let line = |y: usize| -> String {
        let cells = dots[y * width..(y + 1) * width].iter();
        let empty = if y == dashed { '┄' } else { ' ' };
        cells.map(|d| if *d == 0 { empty } else { char::from_u32(0x2800 + u32::from(*d)).unwrap_or(empty) }).collect()
    };
    let mut text: String = (0..height).map(|y| format!("{}{}\n", label(y), line(y).trim_end())).collect();
    text += &format!("{:>6} └{}\n", "", "─".repeat(width));
    text += &format!("{:>8}loss over {} steps; dashed: the table of token pairs", "", losses.len());
    Some(text)
}

/// The mean loss of each of `columns` equal parts; where there are fewer losses, some come more than once.
fn means(losses: &[f32], columns: usize) -> Option<Vec<f64>> {
    let finite: Vec<f64> = losses.iter().copied().filter(|l| l.is_finite()).map(f64::from).collect();
    if finite.len() < 2 {
        return None;
    }
    let part = |column: usize| {
        let from = column * finite.len() / columns;
        let to = ((column + 1) * finite.len() / columns).max(from + 1);
        finite[from..to].iter().sum::<f64>() / (to - from) as f64
    };
    Some((0..columns).map(part).collect())
}

/// The bit of a dot in its character: U+2800 and on count the upper three of each column first.
fn bit(x: usize, y: usize) -> u8 {
    match (x, y) {
        (0, 3) => 1 << 6,
        (1, 3) => 1 << 7,
        _ => 1 << (3 * x + y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_loss_is_a_falling_line() {
        let losses: Vec<f32> = (0..600).map(|i| 2.0 + 5.0 * (-(i as f32) / 80.0).exp()).collect();
        let text = curve(&losses, 4.0).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), SIZE.1 + 2);
        assert!(lines[0].starts_with("  6.8") && lines[7].starts_with("  2.00 ┤"), "{text}");
        assert!(lines.iter().any(|l| l.starts_with("  4.00 ┤") && l.contains('┄')), "{text}");
        // In the first line there are dots at the left alone, in the last one at the right alone.
        let places = |line: &str| -> Vec<usize> {
            let is_dot = |c: char| ('\u{2801}'..='\u{28ff}').contains(&c);
            line.chars().enumerate().filter(|(_, c)| is_dot(*c)).map(|(i, _)| i - 8).collect()
        };
        assert!(places(lines[0]).iter().all(|i| *i < 5) && places(lines[7]).iter().all(|i| *i > 15), "{text}");
        assert!(curve(&[], 4.0).is_none() && curve(&[f32::NAN, 3.0], 4.0).is_none());
        assert!(curve(&[3.0, 3.0], 3.0).is_some());
    }
}
