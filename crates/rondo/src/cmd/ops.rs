//! `rondo ops`: which op runs where, with which element types.

use super::{Outcome, product};
use lab::support;

/// List the ops, and for which devices and element types they have kernels.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// As JSON.
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// As the page docs/ops.md.
    #[arg(long)]
    markdown: bool,
}

/// Runs the verb.
pub fn run(args: Args) -> Outcome {
    if args.markdown {
        product(support::markdown().trim_end());
        return Ok(());
    }
    let table = support::table();
    if args.json {
        product(super::json(&table));
        return Ok(());
    }
    let width = table.iter().map(|row| row.op.len()).max().unwrap_or(0);
    product(format_args!("{:width$}  {:14}  {:14}  {:14}  {:8}  formula", "op", "cpu", "vulkan", "cuda", "gradient"));
    for row in table {
        let [cpu, vulkan, cuda] = [&row.cpu, &row.vulkan, &row.cuda].map(|types| {
            if types.is_empty() { "--".to_string() } else { types.iter().map(short).collect::<Vec<_>>().join(",") }
        });
        let gradient = match (row.fused, row.gradient) {
            (true, _) => "fused",
            (false, true) => "yes",
            (false, false) => "--",
        };
        product(format_args!("{:width$}  {cpu:14}  {vulkan:14}  {cuda:14}  {gradient:8}  {}", row.op, row.formula));
    }
    super::say("* f32 kernels between casts");
    Ok(())
}

/// An element type, with a star where f32 kernels run between casts.
fn short(kernels: &support::Kernels) -> String {
    format!("{}{}", kernels.dtype, if kernels.native { "" } else { "*" })
}
