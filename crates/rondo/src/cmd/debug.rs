//! The debug dial, `RONDO_DEBUG=0..5`: each level shows its own and all below it, on stderr.
#![forbid(unsafe_code)]

use super::{Failure, Outcome, say};
use ::train::{Config, Run, step};
use graph::{Limits, Plan, debug};
use std::ffi::OsStr;

/// The dial's variable.
pub const VARIABLE: &str = "RONDO_DEBUG";

/// How much is shown: 1 device, plan size and memory; 2 time, speed and share of the limit per op, after training;
/// 3 the graph after each pass and the memory map; 4 every launch; 5 every tensor of the next step beside the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dial(u8);

impl Dial {
    /// The level that the variable asks for; none where it isn't set or is empty.
    ///
    /// # Errors
    /// A value that is no level.
    pub fn parse(value: Option<&OsStr>) -> Result<Dial, Failure> {
        let text = value.unwrap_or_default().to_string_lossy();
        match text.as_ref() {
            "" => Ok(Dial(0)),
            "0" | "1" | "2" | "3" | "4" | "5" => Ok(Dial(text.as_bytes()[0] - b'0')),
            other => Err(Failure::usage(format!(
                "{VARIABLE}={other}: it takes 0 to 5\n  help: 1 device, plan, memory; 2 time per op; 3 graphs, memory map; \
                 4 launches; 5 tensors beside the reference"
            ))),
        }
    }

    /// What is known before a plan runs.
    pub fn planned(self, config: &Config, plan: &Plan) -> Outcome {
        if self >= Dial(1) {
            show(debug::overview(plan));
        }
        if self >= Dial(3) {
            for (pass, graph) in step::passes(config).map_err(::train::Error::from)? {
                show(format!(
                    "graph after {pass}: {} nodes, {} values\n{graph}",
                    graph.nodes.len(),
                    graph.values.len()
                ));
            }
            show(debug::memory_map(plan));
        }
        if self >= Dial(4) {
            show(debug::launches(plan));
        }
        Ok(())
    }

    /// What is known before a run trains on.
    pub fn begun(self, run: &Run) -> Outcome {
        self.planned(run.config(), run.trainer().plan())?;
        if self >= Dial(5) {
            show(::train::debug::tensors(run)?);
        }
        Ok(())
    }

    /// What is known once a run has ended and all is saved: measuring goes on with its state.
    pub fn ended(self, run: &mut Run, limits: &Limits) -> Outcome {
        if self >= Dial(2) {
            show(::train::debug::op_times(run, limits)?);
        }
        Ok(())
    }
}

fn show(text: String) {
    say(text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_0_to_5() {
        let parse = |text: &str| Dial::parse(Some(OsStr::new(text)));
        assert_eq!(Dial::parse(None).unwrap(), Dial(0));
        assert_eq!(parse("").unwrap(), Dial(0));
        assert_eq!(parse("5").unwrap(), Dial(5));
        for bad in ["6", "-1", "05", "all", " 1"] {
            assert_eq!(parse(bad).unwrap_err().code, 2, "{bad}");
        }
    }
}
