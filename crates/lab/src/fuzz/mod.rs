//! Parsers on inputs that were changed at random: no panic, no endless work, and what is taken must make sense.
#![forbid(unsafe_code)]

mod mutate;
mod retype;
mod targets;
mod template;

pub use targets::TARGETS;

use mutate::Mutator;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Inputs that are kept to be changed further, at most: of those that were taken, and of those that were refused.
const MOST_KEPT: usize = 1024;
/// Of the inputs that are taken one in so many is kept.
const ONE_IN: u64 = 16;
/// Longer inputs are cut.
const LONGEST: usize = 1 << 16;
/// What takes longer is a finding.
const SLOW: Duration = Duration::from_secs(1);

/// Changes an input, by what is drawn: whole numbers below what is asked for.
pub type Change = fn(&[u8], &mut dyn FnMut(usize) -> usize) -> Option<Vec<u8>>;

/// A parser.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// How many inputs the tests try.
    pub in_tests: u64,
    /// Inputs to begin with, most of them good.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Pieces that its inputs are made of.
    pub words: &'static [&'static str],
    /// An input with something changed that changes of bytes hardly ever come to, drawn by numbers below its argument;
    /// none where the input is none that it understands.
    pub change: Option<Change>,
    /// Parses, and uses what comes of it: `Ok` of it, or of the refusal in words.
    ///
    /// # Errors
    /// What makes no sense about what was taken.
    pub run: fn(&[u8]) -> Result<Result<(), String>, String>,
}

/// An input that has shown a mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The number of the execution.
    pub execution: u64,
    /// What happened.
    pub what: String,
    /// The input.
    pub input: Vec<u8>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Inputs parsed.
    pub executions: u64,
    /// Of them, those that were taken.
    pub taken: u64,
    /// Kinds of answers that there were.
    pub kinds: usize,
    /// Mistakes.
    pub findings: Vec<Finding>,
}

/// The target of a name.
///
/// # Errors
/// When there is none; all are named.
pub fn target(name: &str) -> Result<&'static Target, String> {
    let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    let found = TARGETS.iter().find(|target| target.name == name).copied();
    found.ok_or_else(|| format!("there is no fuzz target `{name}`\n  help: there are {}", names.join(", ")))
}

/// Runs a target on its seeds, on `more` files, and on what `seed` makes of them, until `go_on` says no. The same seed and
/// files give the same inputs in the same order.
pub fn run(target: &Target, more: Vec<Vec<u8>>, seed: u64, mut go_on: impl FnMut(&Report) -> bool) -> Report {
    let mut good = (target.seeds)();
    good.extend(more);
    let (mut report, mut kinds) = (Report::default(), HashSet::new());
    let mut mutator = Mutator::new(seed, target.name, target.words);
    for input in &good {
        execute(target, input, &mut report, &mut kinds);
    }
    let mut odd: Vec<Vec<u8>> = Vec::new();
    while go_on(&report) {
        // Most are near what is taken: what is refused early shows little.
        let kept = if odd.is_empty() || mutator.draw(4) > 0 { &good } else { &odd };
        let mut input = mutator.change(kept, target.change);
        input.truncate(LONGEST);
        let taken = report.taken;
        let is_new = execute(target, &input, &mut report, &mut kinds);
        if report.taken > taken {
            if report.taken.is_multiple_of(ONE_IN) && good.len() < MOST_KEPT {
                good.push(input);
            }
        } else if is_new && odd.len() < MOST_KEPT {
            // What is answered in a new way is near what nobody has tried.
            odd.push(input);
        }
    }
    report.kinds = kinds.len();
    report
}

/// Answers whether the target has answered in a new way.
fn execute(target: &Target, input: &[u8], report: &mut Report, kinds: &mut HashSet<String>) -> bool {
    let execution = report.executions;
    report.executions += 1;
    let begun = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = begun.elapsed();
    let mut find = |what: String| report.findings.push(Finding { execution, what, input: input.into() });
    if took > SLOW {
        find(format!("it took {:.1} s", took.as_secs_f64()));
    }
    match answer {
        Ok(Ok(Ok(()))) => {
            report.taken += 1;
            kinds.insert("taken".into())
        }
        Ok(Ok(Err(refusal))) => kinds.insert(kind(&refusal)),
        Ok(Err(what)) => {
            find(what);
            true
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            find(format!("it panicked: {text}"));
            true
        }
    }
}

/// A refusal without what is particular about it: its first plain words.
fn kind(refusal: &str) -> String {
    let plain = |word: &&str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_lowercase() || b":,;.'".contains(&b));
    let words: Vec<_> = refusal.split_whitespace().take(60).filter(plain).take(10).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100,000 changed inputs of each parser of files; the target is named where one fails.
    #[test]
    fn changed_inputs_do_no_harm() {
        for target in TARGETS {
            let begun = Instant::now();
            let report = run(target, Vec::new(), 1, |report| report.executions < target.in_tests);
            let (name, seconds) = (target.name, begun.elapsed().as_secs_f64());
            let (taken, kinds) = (report.taken, report.kinds);
            println!("{name}: {} in {seconds:.1} s, {taken} taken, {kinds} kinds of answers", report.executions);
            let shown: Vec<_> = report.findings.iter().take(3).collect();
            assert!(shown.is_empty(), "{name}: {} findings, such as {shown:?}", report.findings.len());
            assert!(taken > 100 && kinds > 10, "{name}: {taken} taken, {kinds} kinds: the test can't fail");
        }
    }

    #[test]
    fn a_mistake_is_found_again_by_its_number() {
        let broken = Target {
            name: "broken",
            in_tests: 0,
            seeds: || vec![b"seed".to_vec()],
            words: &["word"],
            change: None,
            run: |input| match input {
                // As a panic, without its message on stderr.
                [b'w', ..] => std::panic::resume_unwind(Box::new("it begins with w".to_string())),
                [_, b'o', ..] => Err("it makes no sense".into()),
                _ => Ok(Err("no".into())),
            },
        };
        let some = |seed| run(&broken, Vec::new(), seed, |report| report.executions < 2000);
        let report = some(5);
        assert_eq!(report, some(5));
        assert!(report.findings.iter().any(|f| f.what == "it panicked: it begins with w" && f.input[0] == b'w'));
        assert!(report.findings.iter().any(|f| f.what == "it makes no sense"));
        assert!(target("nothing").is_err_and(|text| text.contains("gguf")));
    }
}
