//! GLSL to SPIR-V: compiles the shaders that the ops' cards list, and the device's own, and writes what was compiled.
//!
//! `just shaders` (or `cargo run --release --manifest-path tools/shaders/Cargo.toml`) compiles what has changed:
//! `crates/ops/spirv/<name>.spv` for every `Shader` in a card's `OpDef::shaders`, `crates/device/shaders/<name>.spv` for
//! every `.comp` beside it, and a `hashes.txt` in each of the two folders, a line a shader: name, SHA-256 of source,
//! includes, macros and compiler, SHA-256 of the SPIR-V. Commit all of them. With `--check` nothing is written:
//! everything is compiled anew and compared. Includes are relative to `crates/ops/src` and `crates/device/shaders`.
//! Building this tool takes a C++ compiler; using its product takes none.

use glslang::include::{IncludeHandler, IncludeResult, IncludeType};
use glslang::{Compiler, CompilerOptions, ShaderInput, ShaderMessage, ShaderSource, ShaderStage};
use glslang::{SourceLanguage, SpirvVersion, Target, VulkanVersion};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tensor::hash::sha256;

/// One shader to compile.
struct Job {
    name: String,
    source: String,
    defines: Vec<(&'static str, &'static str)>,
}

/// A folder of sources and the folder of their SPIR-V.
struct Set {
    root: PathBuf,
    out: PathBuf,
    jobs: Vec<Job>,
}

fn main() -> ExitCode {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => {
            eprintln!("usage: rondo-shaders [--check]");
            return ExitCode::from(2);
        }
    };
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut mistakes = 0;
    for set in [ops(&crates), device(&crates)] {
        match set.and_then(|set| run(&set, check)) {
            Ok(count) => mistakes += count,
            Err(e) => {
                eprintln!("error: {e}");
                mistakes += 1;
            }
        }
    }
    if mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the cards list.
fn ops(crates: &Path) -> Result<Set, String> {
    let mut jobs: Vec<Job> = Vec::new();
    for op in ops::OPS {
        for shader in op.shaders {
            let job = Job { name: shader.name.into(), source: shader.source.into(), defines: shader.defines.to_vec() };
            match jobs.iter().find(|j| j.name == job.name) {
                Some(same) if same.source == job.source && same.defines == job.defines => {}
                Some(_) => return Err(format!("two different shaders are named `{}`", job.name)),
                None => jobs.push(job),
            }
        }
    }
    Ok(Set { root: crates.join("ops/src"), out: crates.join("ops/spirv"), jobs })
}

/// The device's own shaders: every `.comp` in its folder.
fn device(crates: &Path) -> Result<Set, String> {
    let root = crates.join("device/shaders");
    let mut jobs = Vec::new();
    for name in files(&root, "comp")? {
        jobs.push(Job { source: format!("{name}.comp"), name, defines: Vec::new() });
    }
    Ok(Set { out: root.clone(), root, jobs })
}

/// Names, without the extension, of the files in `folder` that have it.
fn files(folder: &Path, extension: &str) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries.filter_map(|e| e.ok().map(|e| e.path()));
    let mut names: Vec<String> = paths
        .filter(|p| p.extension().is_some_and(|e| e == extension))
        .filter_map(|p| p.file_stem().map(|s| s.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// Compiles what has changed, or everything when checking; answers how many shaders are wrong.
fn run(set: &Set, check: bool) -> Result<usize, String> {
    let compiler = compiler_version();
    let table = set.out.join("hashes.txt");
    let old = read_table(&std::fs::read_to_string(&table).unwrap_or_default());
    let mut new = BTreeMap::new();
    let (mut mistakes, mut compiled) = (0, 0);
    for job in &set.jobs {
        let path = set.out.join(format!("{}.spv", job.name));
        let there = std::fs::read(&path).unwrap_or_default();
        let source = ops::spirv::sources_sha256(&set.root, &job.source, &job.defines, &compiler)
            .map_err(|e| format!("shader `{}`: {e}", job.name))?;
        let current = (source, sha256(&there));
        if !check && !there.is_empty() && old.get(&job.name) == Some(&current) {
            new.insert(job.name.clone(), current);
            continue;
        }
        compiled += 1;
        let spirv = match compile(&set.root, job) {
            Ok(words) => words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>(),
            Err(log) => {
                eprintln!("error: shader `{}` ({}) does not compile:\n{log}", job.name, job.source);
                mistakes += 1;
                continue;
            }
        };
        if check && (spirv != there || old.get(&job.name) != Some(&current)) {
            eprintln!("error: {} is not what its source compiles to; run `just shaders`", path.display());
            mistakes += 1;
        }
        if !check && spirv != there {
            std::fs::write(&path, &spirv).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        new.insert(job.name.clone(), (current.0, sha256(&spirv)));
    }
    for name in files(&set.out, "spv")?.iter().filter(|n| !set.jobs.iter().any(|j| j.name == **n)) {
        if check {
            eprintln!("error: {name}.spv belongs to no shader; run `just shaders`");
            mistakes += 1;
        } else {
            std::fs::remove_file(set.out.join(format!("{name}.spv"))).map_err(|e| format!("{name}.spv: {e}"))?;
        }
    }
    if !check {
        let lines = new.iter().map(|(name, (source, spirv))| format!("{name} {source} {spirv}\n"));
        let text = format!("compiler {compiler}\n{}", lines.collect::<String>());
        std::fs::write(&table, text).map_err(|e| format!("{}: {e}", table.display()))?;
    }
    eprintln!("{}: {} shaders, {compiled} compiled, {mistakes} wrong", set.out.display(), set.jobs.len());
    Ok(mistakes)
}

/// The lines of `hashes.txt`; a name with two lines (merged branches) counts as changed.
fn read_table(text: &str) -> BTreeMap<String, (String, String)> {
    let mut table = BTreeMap::new();
    for line in text.lines() {
        if let [name, source, spirv] = line.split(' ').collect::<Vec<_>>()[..] {
            let entry = (source.to_owned(), spirv.to_owned());
            if table.insert(name.to_owned(), entry.clone()).is_some_and(|before| before != entry) {
                table.insert(name.to_owned(), Default::default());
            }
        }
    }
    table
}

/// Name and version of the compiler, from this tool's lock file.
fn compiler_version() -> String {
    let lock = include_str!("../Cargo.lock");
    let version = lock.split("name = \"glslang-sys\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    format!("glslang-sys-{}", version.expect("the lock file has the compiler"))
}

/// Answers `#include "path"` with the file at that path under the root.
struct Includes<'a>(&'a Path);

impl IncludeHandler for Includes<'_> {
    fn include(&mut self, _: IncludeType, name: &str, _: &str, _: usize) -> Option<IncludeResult> {
        let data = std::fs::read_to_string(self.0.join(name)).ok()?;
        Some(IncludeResult { name: name.to_owned(), data })
    }
}

/// SPIR-V 1.5 for Vulkan 1.2, or what the compiler says against it.
fn compile(root: &Path, job: &Job) -> Result<Vec<u32>, String> {
    let path = root.join(&job.source);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let Some((version, rest)) = text.split_once('\n').filter(|(first, _)| first.starts_with("#version")) else {
        return Err("its first line is not `#version`".into());
    };
    let source =
        ShaderSource::from(format!("{version}\n#extension GL_GOOGLE_include_directive : require\n#line 2\n{rest}"));
    let target = Target::Vulkan { version: VulkanVersion::Vulkan1_2, spirv_version: SpirvVersion::SPIRV1_5 };
    let options = CompilerOptions {
        source_language: SourceLanguage::GLSL,
        target,
        version_profile: None,
        messages: ShaderMessage::DEFAULT,
    };
    let defines: Vec<(&str, Option<&str>)> = job.defines.iter().map(|(n, v)| (*n, Some(*v))).collect();
    let mut includes = Includes(root);
    let input =
        ShaderInput::new(&source, ShaderStage::Compute, &options, Some(defines.as_slice()), Some(&mut includes))
            .map_err(|e| e.to_string())?;
    let compiler = Compiler::acquire().ok_or("the compiler does not start")?;
    let shader = compiler.create_shader(input).map_err(|e| e.to_string())?;
    shader.compile().map_err(|e| e.to_string())
}
