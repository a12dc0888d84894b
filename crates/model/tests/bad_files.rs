//! The catalogue of bad model files through the library, and every truncation of a file of each format.
#![cfg(unix)]

#[path = "bad_files/mod.rs"]
mod bad_files;

use bad_files::raw::Raw;
use bad_files::{Case, Outcome, cases};
use model::family;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};
use tensor::file::{Error, gguf, safetensors};

/// Opens what is there as a model; answers what is odd about it.
fn open(path: &Path) -> Result<Vec<String>, Error> {
    if path.extension().is_none_or(|ending| ending != "gguf") {
        return safetensors::File::open(path).map(|_| Vec::new());
    }
    let file = gguf::File::open(path)?;
    let known = family::of_gguf(&file)?;
    Ok(file.warnings().iter().cloned().chain(known.warnings).collect())
}

/// What came of a case that shouldn't have.
fn wrong(case: &Case, folder: &Path) -> Option<String> {
    let path = case.write(folder);
    let begun = Instant::now();
    let opened = open(&path);
    let took = begun.elapsed();
    if took >= Duration::from_secs(1) {
        return Some(format!("it took {took:?}"));
    }
    match (&case.outcome, opened) {
        (Outcome::Refused(said), Err(error)) => {
            let text = error.to_string();
            let placed = match &error {
                Error::Format { problem, .. } => problem.offset <= case.bytes() as u64 && !problem.field.is_empty(),
                // What isn't there has no bytes.
                Error::Io { source, .. } => source.kind() == ErrorKind::NotFound,
            };
            let named = text.starts_with(&*folder.to_string_lossy()) && text.contains("help: ");
            let fine = placed && named && text.len() < 2000 && said.iter().all(|said| text.contains(said));
            (!fine).then(|| format!("it should say {said:?}: {text}"))
        }
        (Outcome::Read(None), Ok(warnings)) => (!warnings.is_empty()).then(|| format!("{warnings:?}")),
        (Outcome::Read(Some(said)), Ok(warnings)) => {
            (!warnings.iter().any(|w| w.contains(said))).then(|| format!("it should warn {said:?}: {warnings:?}"))
        }
        (Outcome::Refused(said), Ok(_)) => Some(format!("it was read, and should say {said:?}")),
        (Outcome::Read(_), Err(error)) => Some(error.to_string()),
    }
}

#[test]
fn every_case_is_refused_by_name() {
    let folder = std::env::temp_dir().join(format!("rondo-bad-model-{}", std::process::id()));
    let all = cases();
    let found = |case: &Case| wrong(case, &folder).map(|what| format!("{} {}: {what}", case.id, case.what));
    let found: Vec<String> = all.iter().filter_map(found).collect();
    let _ = std::fs::remove_dir_all(&folder);
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), all.len(), found.join("\n"));
    // GG32 is the test below.
    let expected = (0..=36).filter(|n| *n != 32).map(|n| format!("GG{n:02}"));
    let expected: BTreeSet<_> = expected.chain((0..=16).map(|n| format!("ST{n:02}"))).collect();
    assert_eq!(all.iter().map(|case| case.id.to_string()).collect::<BTreeSet<_>>(), expected);
}

/// GG32: 11 KB and more of each format, cut at every byte.
#[test]
fn every_truncation_is_an_error() {
    let whole = Raw::good().bytes();
    assert!((11_000..20_000).contains(&whole.len()), "{}", whole.len());
    let end = gguf::parse(&whole).expect("it is good").tensors.iter().map(|t| t.offset + t.bytes).max();
    for length in 0..end.expect("there are tensors") as usize {
        let problem = gguf::parse(&whole[..length]).expect_err("a part of a file is no file");
        assert!(problem.offset <= length as u64 && !problem.field.is_empty(), "{length}: {problem}");
    }
    let numbers = [1u8; 64];
    let names: Vec<String> = (0..110).map(|i| format!("model.layers.{i}.weight")).collect();
    let tensors = names.iter().map(|name| (name.as_str(), tensor::DType::F32, &[4usize, 4][..], &numbers[..]));
    let whole = safetensors::bytes(Path::new("seed"), tensors, Default::default()).expect("it can be written");
    assert!((11_000..20_000).contains(&whole.len()), "{}", whole.len());
    safetensors::head(&whole).expect("it is good");
    for length in 0..whole.len() {
        let problem = safetensors::head(&whole[..length]).expect_err("a part of a file is no file");
        assert!(problem.offset <= length as u64 && !problem.field.is_empty(), "{length}: {problem}");
    }
}
