//! `spirv!(name)`: the compiled shader of a name, empty while the shader tool runs; hashes tell whether it is current.

use std::path::Path;
use tensor::hash::Hasher;

#[cfg(not(feature = "without-spirv"))]
macro_rules! spirv {
    ($($name:tt),*) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/spirv/", $($name,)* ".spv"))
    };
}

#[cfg(feature = "without-spirv")]
macro_rules! spirv {
    ($($name:tt),*) => {
        &[]
    };
}

/// SHA-256 over a shader's source, what it includes (all paths relative to `root`), its macros and the compiler.
///
/// # Errors
/// When a file can't be read; the path is named.
pub fn sources_sha256(
    root: &Path,
    source: &str,
    defines: &[(&str, &str)],
    compiler: &str,
) -> Result<String, std::io::Error> {
    let mut hasher = Hasher::default();
    let mut put = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    put(compiler);
    for (name, value) in defines {
        put(name);
        put(value);
    }
    let mut files = vec![source.to_owned()];
    let mut next = 0;
    while next < files.len() {
        let path = root.join(&files[next]);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| std::io::Error::new(e.kind(), format!("{}: {e}", path.display())))?
            .replace("\r\n", "\n");
        put(&files[next]);
        put(&text);
        let included = text.lines().filter_map(|l| l.trim().strip_prefix("#include")?.trim().strip_prefix('"'));
        for name in included.filter_map(|rest| rest.split('"').next()) {
            if !files.iter().any(|f| f == name) {
                files.push(name.to_owned());
            }
        }
        next += 1;
    }
    Ok(hasher.finish())
}
