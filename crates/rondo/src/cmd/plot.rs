//! `rondo plot`: draws runs into one picture: loss, validation loss, learning rate, gradient norm.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, product, say};
use lab::plot::{self, ALL, Curves, Error, Look, What};
use std::path::{Path, PathBuf};
use tensor::file::atomic::Refused;

/// Draw runs into one picture: loss, validation loss, learning rate, gradient norm.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folders of runs, such as runs/hlx-full-0.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The picture's file, .svg or .png [default: both, as plots/curves in the first run's folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// What to draw, with commas between: loss, val, lr, grad_norm [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = what)]
    what: Vec<What>,
    /// Steps that lines are smoothed over, 0 for none [default: a hundredth of the run].
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true, value_parser = super::count)]
    smooth: Option<u32>,
    /// Losses and gradient norms on a logarithmic axis.
    #[arg(long)]
    log_y: bool,
    /// What is counted along the bottom.
    #[arg(long, value_name = "UNIT", value_parser = ["steps", "tokens"], default_value = "steps")]
    x: String,
    /// The title [default: the names of the runs].
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Print the pictures' paths as JSON.
    #[arg(long)]
    json: bool,
}

fn what(name: &str) -> Result<What, String> {
    match name {
        "loss" => Ok(What::Loss),
        "val" | "validation" => Ok(What::Validation),
        "lr" => Ok(What::Lr),
        "grad_norm" | "grad-norm" => Ok(What::GradNorm),
        _ => Err("there is loss, val, lr and grad_norm".into()),
    }
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    let paths = match &args.out {
        Some(path) => {
            let kind = path.extension().unwrap_or_default().to_ascii_lowercase();
            if kind != "png" && kind != "svg" {
                let name = path.display();
                return Err(Failure::usage(format!(
                    "--out {name}: pictures are .svg or .png\n  help: --out {name}.png"
                )));
            }
            vec![path.clone()]
        }
        None => {
            let folder = args.runs.first().map(PathBuf::as_path).unwrap_or(Path::new("."));
            vec![folder.join("plots/curves.svg"), folder.join("plots/curves.png")]
        }
    };
    let runs = args.runs.iter().map(|run| Curves::read(run)).collect::<Result<Vec<_>, _>>()?;
    let tokens = args.x == "tokens";
    if let (true, Some(run)) = (tokens, runs.iter().find(|run| run.tokens_per_step.is_none())) {
        let what = format!("{}: how many tokens a step has is not known without its config.toml", run.name);
        return Err(Failure::bad_file(format!("{what}\n  help: --x steps")));
    }
    let what = if args.what.is_empty() { ALL.to_vec() } else { args.what };
    let smooth = args.smooth.map(|steps| steps as f64);
    let scene = plot::draw(&runs, &Look { what, smooth, log_y: args.log_y, tokens, title: args.title });
    for path in &paths {
        plot::save(&scene, path)?;
    }
    if args.json {
        let paths: Vec<_> = paths.iter().map(super::path_text).collect();
        product(super::json(&serde_json::json!({ "pictures": paths })));
    } else {
        paths.iter().for_each(|path| product(path.display()));
        if let [run] = &args.runs[..] {
            let run = run.display();
            say(format_args!("Beside another run: rondo plot {run} OTHER --out both.png"));
        }
    }
    Ok(())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoRun(_) | Error::Empty(_) | Error::Line { .. } => Failure::bad_file(error),
            Error::Io { ref what, .. } if Refused::of(what).is_some() => {
                Failure::usage(format!("{error}\n  help: name a file that is made or replaced"))
            }
            Error::Io { .. } => Failure::failed(error),
        }
    }
}
