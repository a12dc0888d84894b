//! Pictures of runs: loss, validation loss, learning rate and gradient norm over steps or tokens, as SVG and PNG.

mod axis;
pub mod curves;
mod panel;
pub mod png;
pub mod scene;

pub use curves::{Curves, Error};
use panel::{Layout, Panel};
use scene::{Anchor, Color, Frame, Scene};
use std::path::{Path, PathBuf};

/// What can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Loss of each step, light, and smoothed.
    Loss,
    /// Loss on the validation data.
    Validation,
    /// Learning rate.
    Lr,
    /// Norm of the gradient.
    GradNorm,
}

/// All that can be drawn.
pub const ALL: &[What] = &[What::Loss, What::Validation, What::Lr, What::GradNorm];

/// How it is to look.
#[derive(Clone, Debug)]
pub struct Look {
    /// What is drawn.
    pub what: Vec<What>,
    /// Steps that the smoothed lines are smoothed over; 0 or 1 for none, a hundredth of the run without a number.
    pub smooth: Option<f64>,
    /// Losses and gradient norms on a logarithmic axis.
    pub log_y: bool,
    /// Tokens along the bottom in place of steps, where all runs' are known.
    pub tokens: bool,
    /// The title [default: the names of the runs].
    pub title: Option<String>,
}

impl Default for Look {
    fn default() -> Self {
        Look { what: ALL.to_vec(), smooth: None, log_y: false, tokens: false, title: None }
    }
}

/// Width of a picture in pixels of the SVG.
const WIDTH: f64 = 960.0;
/// Height of the upper panel, and of those below it.
const HEIGHTS: [f64; 2] = [400.0, 200.0];
/// Text: titles, and what is less important.
const INK: Color = [32, 36, 44];
const GREY: Color = [110, 116, 128];
/// One color a run, distinct also to eyes that see fewer colors.
const COLORS: [Color; 8] = [
    [31, 90, 180],
    [214, 96, 26],
    [26, 140, 90],
    [160, 60, 150],
    [120, 94, 20],
    [200, 40, 60],
    [20, 140, 170],
    [90, 90, 100],
];

/// Draws runs into one picture: losses above, learning rate and gradient norm below.
pub fn draw(runs: &[Curves], look: &Look) -> Scene {
    let panels = panels(look);
    let mut scene = Scene::new(WIDTH, 0.0);
    let title = look.title.clone().unwrap_or_else(|| title(runs));
    scene.text((24.0, 32.0), title, 19.0, Anchor::Start, INK);
    let mut top = 44.0;
    if let [run] = runs {
        scene.text((24.0, 53.0), run.note.clone(), 12.0, Anchor::Start, GREY);
        top += 20.0;
    }
    let layout = Layout { runs, look, tokens: look.tokens && runs.iter().all(|r| r.tokens_per_step.is_some()) };
    top += panels.first().map_or(0.0, |panel| layout.legend(&mut scene, panel, top));
    scene.height = top + HEIGHTS[0] + if panels.len() > 1 { HEIGHTS[1] } else { 0.0 };
    let upper = Frame { x: 0.0, y: top, width: WIDTH, height: HEIGHTS[0] };
    let below = panels.len().saturating_sub(1).max(1) as f64;
    for (i, panel) in panels.iter().enumerate() {
        let x = (i.max(1) - 1) as f64 * WIDTH / below;
        let lower = Frame { x, y: top + HEIGHTS[0], width: WIDTH / below, height: HEIGHTS[1] };
        layout.panel(&mut scene, panel, if i == 0 { upper } else { lower });
    }
    scene
}

fn title(runs: &[Curves]) -> String {
    let names: Vec<_> = runs.iter().take(4).map(|run| run.name.as_str()).collect();
    let rest = runs.len() - names.len();
    let names = names.join(", ");
    if rest > 0 { format!("{names} and {rest} more") } else { names }
}

/// Losses share a panel; the others have one each.
fn panels(look: &Look) -> Vec<Panel> {
    let has = |what| look.what.contains(&what);
    let mut panels = Vec::new();
    if has(What::Loss) || has(What::Validation) {
        panels.push(Panel::Loss { train: has(What::Loss), validation: has(What::Validation) });
    }
    panels.extend(has(What::Lr).then_some(Panel::Lr));
    panels.extend(has(What::GradNorm).then_some(Panel::GradNorm));
    panels
}

/// Writes a run's picture as `plots/curves.svg` and `plots/curves.png` into its folder, and says where the PNG is.
///
/// # Errors
/// When there is no run, no step in it, or the folder can't be written.
pub fn write(run: &Path) -> Result<PathBuf, Error> {
    let scene = draw(&[Curves::read(run)?], &Look::default());
    let png = run.join("plots/curves.png");
    save(&scene, &png.with_extension("svg"))?;
    save(&scene, &png)?;
    Ok(png)
}

/// Writes a picture: PNG where the file's name ends in `.png`, else SVG. The folder is made where there is none.
///
/// # Errors
/// When the file can't be written.
pub fn save(scene: &Scene, path: &Path) -> Result<(), Error> {
    let io = |what| Error::Io { path: path.into(), what };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let is_png = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png"));
    let bytes = if is_png { png::png(scene) } else { scene.svg().into_bytes() };
    tensor::file::atomic::write(path, &bytes).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, steps: u32) -> Curves {
        let at = |f: fn(f64) -> f64| (1..=steps).map(|i| (f64::from(i), f(f64::from(i)))).collect::<Vec<_>>();
        Curves {
            name: name.into(),
            note: "3.2M parameters".into(),
            tokens_per_step: Some(64.0),
            loss: at(|x| 4.0 / x.sqrt()),
            validation: at(|x| 4.1 / x.sqrt()).into_iter().step_by(10).collect(),
            lr: at(|x| 1e-3 / x),
            grad_norm: at(|x| 2.0 + (x * 0.7).sin()),
            skipped: vec![7.0],
            bigram: None,
        }
    }

    #[test]
    fn every_panel_has_its_axes_and_legend() {
        let svg = draw(&[run("one", 200)], &Look::default()).svg();
        for text in [
            "one",
            "3.2M parameters",
            "loss per token",
            "learning rate",
            "gradient norm",
            ">step<",
            ">200<",
            "validation",
        ] {
            assert!(svg.contains(text), "{text} is missing:\n{svg}");
        }
        assert!(!svg.contains("table of token pairs"));
        let table = Curves { bigram: Some(3.25), ..run("one", 200) };
        assert!(draw(&[table], &Look::default()).svg().contains("table of token pairs  3.2500"));
        let two = Look { what: vec![What::Loss], tokens: true, log_y: true, ..Look::default() };
        let svg = draw(&[run("one", 200), run("two", 100)], &two).svg();
        assert!(svg.contains(">one, two<") && svg.contains(">tokens<") && svg.contains(">10k<"), "{svg}");
        assert!(!svg.contains("learning rate") && !svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_legend_of_many_runs_has_several_rows() {
        let runs: Vec<_> = (0..12).map(|i| run(&format!("a-run-with-a-long-name-{i}"), 50)).collect();
        let (few, many) = (draw(&runs[..2], &Look::default()), draw(&runs, &Look::default()));
        assert!(many.height > few.height + 60.0);
        assert!(many.svg().contains("and 8 more") && many.svg().contains("a-run-with-a-long-name-11, validation"));
    }

    #[test]
    fn a_run_of_one_step_and_one_without_finite_steps_are_drawn() {
        let nothing = Curves { name: "nothing".into(), skipped: vec![1.0], ..Curves::default() };
        for curves in [run("one", 1), nothing] {
            for log_y in [false, true] {
                let scene = draw(std::slice::from_ref(&curves), &Look { log_y, ..Look::default() });
                assert!(!scene.svg().contains("NaN") && !scene.svg().contains("inf"));
            }
        }
    }
}
