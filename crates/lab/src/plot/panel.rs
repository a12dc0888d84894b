//! One panel of a picture: axes with units, grid, the runs' lines, and the legend.

use super::axis::{Axis, count, number};
use super::curves::{Points, smoothed};
use super::png::text_width;
use super::scene::{Anchor, Color, Frame, Item, Scene, lighter};
use super::{COLORS, Curves, GREY, INK, Look};

/// What a panel shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Panel {
    /// Losses.
    Loss {
        /// Of the training steps.
        train: bool,
        /// Of evaluations.
        validation: bool,
    },
    /// Learning rate.
    Lr,
    /// Gradient norm.
    GradNorm,
}

/// What all panels of a picture share.
pub struct Layout<'a> {
    /// The runs, each with its color.
    pub runs: &'a [Curves],
    /// How it is to look.
    pub look: &'a Look,
    /// Tokens along the bottom in place of steps.
    pub tokens: bool,
}

/// A line to draw.
struct Curve {
    points: Points,
    color: Color,
    width: f64,
    dash: Option<f64>,
    /// Its points are marked: there are few.
    dots: bool,
}

/// A line of the legend.
struct Key {
    text: String,
    color: Color,
    dash: Option<f64>,
}

/// Points closer than this are drawn as one column.
const COLUMN: f64 = 0.5;
const GRID: Color = [232, 234, 238];
const FRAME: Color = [170, 175, 185];
const TABLE: Color = [70, 76, 88];
const SKIPPED: Color = [210, 30, 40];
/// Validation where there is one run: a color that no first run has.
const VALIDATION: Color = COLORS[1];

impl Layout<'_> {
    /// Draws a panel into `outer`, labels included.
    pub fn panel(&self, scene: &mut Scene, panel: &Panel, outer: Frame) {
        let (curves, _) = self.curves(panel);
        let tables = self.tables(panel);
        let log = self.look.log_y && *panel != Panel::Lr;
        let y = range(&curves, &tables, log, *panel == Panel::GradNorm);
        let x = self.steps();
        // The right margin holds half of the last label, so that none is cut.
        let frame =
            Frame { x: outer.x + 78.0, y: outer.y + 12.0, width: outer.width - 108.0, height: outer.height - 62.0 };
        let at =
            |(px, py): (f64, f64)| (frame.x + x.place(px) * frame.width, frame.y + (1.0 - y.place(py)) * frame.height);
        self.axes(scene, panel, frame, &x, &y);
        for curve in &curves {
            let points = thinned(&curve.points.iter().map(|p| at(*p)).collect::<Vec<_>>());
            if curve.dots {
                let inside = points.iter().filter(|p| p.1 >= frame.y - 1.0);
                let dots = inside.map(|&at| Item::Dot { at, radius: 2.6, color: curve.color });
                scene.items.extend(dots.collect::<Vec<_>>());
            }
            let Curve { color, width, dash, .. } = *curve;
            scene.items.push(Item::Line { points, color, width, dash, clip: Some(frame) });
        }
        for table in tables {
            let (left, right) = (frame.x, frame.x + frame.width);
            let (_, height) = at((0.0, table));
            let points = vec![(left, height), (right, height)];
            scene.items.push(Item::Line { points, color: TABLE, width: 1.5, dash: Some(6.0), clip: None });
            // At the right, on the side of the line where no curve ends.
            let under = curves.iter().filter_map(|curve| curve.points.last()).any(|last| last.1 > table);
            let beside = if under && height + 24.0 < frame.y + frame.height { height + 17.0 } else { height - 8.0 };
            scene.text((right - 10.0, beside), format!("table of token pairs  {table:.4}"), 12.5, Anchor::End, TABLE);
        }
        if let Panel::Loss { train: true, .. } = panel {
            self.skipped(scene, frame, &x);
        }
    }

    /// Draws the legend in rows from `top` on, and answers how high it is. It lies above the panels, so that it hides
    /// nothing.
    pub fn legend(&self, scene: &mut Scene, panel: &Panel, top: f64) -> f64 {
        let (_, keys) = self.curves(panel);
        let (size, row) = (12.5, 22.0);
        let (mut x, mut y) = (24.0, top + row / 2.0);
        for key in &keys {
            let width = text_width(&key.text) * size + 64.0;
            if x + width > scene.width && x > 24.0 {
                (x, y) = (24.0, y + row);
            }
            let points = vec![(x, y), (x + 28.0, y)];
            scene.items.push(Item::Line { points, color: key.color, width: 2.5, dash: key.dash, clip: None });
            scene.text((x + 36.0, y + 4.5), key.text.clone(), size, Anchor::Start, INK);
            x += width;
        }
        if keys.is_empty() { 0.0 } else { y + row / 2.0 - top }
    }

    /// What tables of token pairs come to, each number once; with losses alone.
    fn tables(&self, panel: &Panel) -> Vec<f64> {
        let mut all: Vec<f64> = self.runs.iter().filter_map(|run| run.bigram).collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        if matches!(panel, Panel::Loss { .. }) { all } else { Vec::new() }
    }

    /// How far a step is along the bottom, in what the bottom counts.
    fn along(&self, run: &Curves, points: &[(f64, f64)]) -> Points {
        let scale = if self.tokens { run.tokens_per_step.unwrap_or(1.0) } else { 1.0 };
        points.iter().map(|(x, y)| (x * scale, *y)).collect()
    }

    fn steps(&self) -> Axis {
        let ends = self.runs.iter().map(|run| self.along(run, &[(run.steps(), 0.0)])[0].0);
        Axis { low: 0.0, high: ends.fold(1.0, f64::max), log: false }
    }

    /// Light lines first, so that the smoothed ones lie on top.
    fn curves(&self, panel: &Panel) -> (Vec<Curve>, Vec<Key>) {
        let (mut light, mut full, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let alone = self.runs.len() == 1;
        for (i, run) in self.runs.iter().enumerate() {
            let color = COLORS[i % COLORS.len()];
            let (points, smooth) = match panel {
                Panel::Loss { train, .. } => (if *train { &run.loss[..] } else { &[] }, true),
                Panel::Lr => (&run.lr[..], false),
                Panel::GradNorm => (&run.grad_norm[..], true),
            };
            let width = if smooth { self.look.smooth.unwrap_or(run.steps() / 100.0) } else { 0.0 };
            let line = smoothed(points, width);
            if width > 1.0 && !points.is_empty() {
                let color = lighter(color, 0.68);
                light.push(Curve { points: self.along(run, points), color, width: 1.0, dash: None, dots: false });
            }
            let name = if alone { "training" } else { run.name.as_str() };
            if let (Panel::Loss { .. }, Some(last)) = (panel, line.last()) {
                keys.push(Key { text: format!("{name}  {:.4}", last.1), color, dash: None });
            }
            let dots = line.len() == 1;
            full.push(Curve { points: self.along(run, &line), color, width: 2.0, dash: None, dots });
            if let (Panel::Loss { validation: true, .. }, Some(last)) = (panel, run.validation.last()) {
                let (color, dash) = if alone { (VALIDATION, None) } else { (color, Some(5.0)) };
                let name = if alone { "validation".to_string() } else { format!("{}, validation", run.name) };
                let best = run.validation.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
                let best = if best < last.1 { format!(", best {best:.4}") } else { String::new() };
                keys.push(Key { text: format!("{name}  {:.4}{best}", last.1), color, dash });
                let points = self.along(run, &run.validation);
                full.push(Curve { dots: points.len() <= 60, points, color, width: 2.0, dash });
            }
        }
        light.extend(full);
        (light, keys)
    }

    fn axes(&self, scene: &mut Scene, panel: &Panel, frame: Frame, x: &Axis, y: &Axis) {
        let Frame { x: left, y: top, width, height } = frame;
        let (right, bottom) = (left + width, top + height);
        for value in y.marks(((height / 30.0) as usize).min(7)) {
            let at = bottom - y.place(value) * height;
            scene.line((left, at), (right, at), GRID, 1.0);
            scene.text((left - 8.0, at + 4.0), number(value), 12.0, Anchor::End, GREY);
        }
        for value in x.marks((width / 100.0) as usize) {
            let at = left + x.place(value) * width;
            scene.line((at, top), (at, bottom), GRID, 1.0);
            scene.line((at, bottom), (at, bottom + 4.0), FRAME, 1.0);
            scene.text((at, bottom + 18.0), count(value), 12.0, Anchor::Middle, GREY);
        }
        scene.line((left, bottom), (right, bottom), FRAME, 1.0);
        scene.line((left, top), (left, bottom), FRAME, 1.0);
        let below = if self.tokens { "tokens" } else { "step" };
        scene.text((left + width / 2.0, bottom + 38.0), below, 13.0, Anchor::Middle, INK);
        let beside = match panel {
            Panel::Loss { .. } => "loss per token (nats)",
            Panel::Lr => "learning rate",
            Panel::GradNorm => "gradient norm",
        };
        let at = (left - 56.0, top + height / 2.0);
        let (text, size, anchor) = (beside.to_string(), 13.0, Anchor::Middle);
        scene.items.push(Item::Text { at, text, size, anchor, color: INK, upwards: true });
    }

    /// A red stroke at the bottom for each step that changed nothing, since its gradient wasn't finite.
    fn skipped(&self, scene: &mut Scene, frame: Frame, x: &Axis) {
        for run in self.runs {
            for (step, _) in self.along(run, &run.skipped.iter().map(|s| (*s, 0.0)).collect::<Vec<_>>()) {
                let at = frame.x + x.place(step) * frame.width;
                let bottom = frame.y + frame.height;
                scene.line((at, bottom - 9.0), (at, bottom), SKIPPED, 1.5);
            }
        }
    }
}

/// The values of all curves and of `more`; gradient norms leave their highest hundredth out, which would flatten all else.
fn range(curves: &[Curve], more: &[f64], log: bool, robust: bool) -> Axis {
    let mut values: Vec<f64> = curves.iter().flat_map(|c| c.points.iter().map(|p| p.1)).collect();
    values.extend(more);
    values.retain(|v| v.is_finite() && (!log || *v > 0.0));
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(top)) = (values.first(), values.last()) else { return Axis::new(0.1, 1.0, log) };
    let high = if robust && !log { values[(values.len() - 1) * 99 / 100] * 1.25 } else { *top };
    Axis::new(if robust && !log { 0.0 } else { *low }, high.min(*top).max(*low), log)
}

/// Points so close that they share a column become its first, lowest, highest and last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let column = |p: &(f64, f64)| (p.0 / COLUMN).floor();
    let mut kept = Vec::with_capacity(points.len().min(8192));
    for group in points.chunk_by(|a, b| column(a) == column(b)) {
        if group.len() <= 4 {
            kept.extend_from_slice(group);
            continue;
        }
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends = [group.first(), group.iter().min_by(by_height), group.iter().max_by(by_height), group.last()];
        kept.extend(ends.into_iter().flatten().copied());
    }
    kept
}
