//! Every committed SPIR-V file is what `tools/shaders` made from the sources as they are; no compiler is needed to tell.

use std::collections::BTreeMap;
use std::path::Path;
use tensor::hash::sha256;

/// A folder's `hashes.txt`: the compiler, and source and SPIR-V hash by name.
fn table(folder: &Path) -> (String, BTreeMap<String, (String, String)>) {
    let path = folder.join("hashes.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (first, rest) = text.split_once('\n').expect("a first line");
    let compiler = first.strip_prefix("compiler ").expect("the first line names the compiler");
    let mut entries = BTreeMap::new();
    for line in rest.lines() {
        let [name, source, spirv] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("odd line `{line}`") };
        let before = entries.insert(name.to_owned(), (source.to_owned(), spirv.to_owned()));
        assert!(before.is_none(), "`{name}` has two lines in {}; run `just shaders`", path.display());
    }
    (compiler.to_owned(), entries)
}

fn check(root: &Path, out: &Path, shaders: &[(String, String, Vec<(&str, &str)>)]) {
    let (compiler, mut entries) = table(out);
    for (name, source, defines) in shaders {
        let (sources, spirv) =
            entries.remove(name).unwrap_or_else(|| panic!("`{name}` was never compiled; run `just shaders`"));
        let now = ops::spirv::sources_sha256(root, source, defines, &compiler).expect("the sources can be read");
        assert_eq!(now, sources, "`{source}` or what it includes has changed; run `just shaders`");
        let file = std::fs::read(out.join(format!("{name}.spv"))).expect("the SPIR-V is there");
        assert_eq!(sha256(&file), spirv, "{name}.spv isn't what was compiled; run `just shaders`");
        assert_eq!(file[..4], 0x0723_0203_u32.to_le_bytes(), "{name}.spv isn't SPIR-V");
    }
    assert!(entries.is_empty(), "no shader is named {:?}; run `just shaders`", entries.keys());
}

#[test]
fn ops_spirv_is_current() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shaders = BTreeMap::new();
    for shader in ops::OPS.iter().flat_map(|op| op.shaders) {
        shaders.insert(shader.name, (shader.name.to_owned(), shader.source.to_owned(), shader.defines.to_vec()));
    }
    check(&here.join("src"), &here.join("spirv"), &shaders.into_values().collect::<Vec<_>>());
}

#[test]
fn device_spirv_is_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../device/shaders");
    let mut shaders = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "comp") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            shaders.push((name.clone(), format!("{name}.comp"), Vec::new()));
        }
    }
    check(&folder, &folder, &shaders);
}
