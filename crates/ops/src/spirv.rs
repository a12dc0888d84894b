//! `spirv!(name)`: the compiled shader of a name, empty while the shader tool runs; hashes tell whether it is current. And
//! `shaders!`: a shader for each element type.

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

/// `shaders!(same ["name"] "file.comp" [("MACRO", "1"), ...])`: a shader for f32, bf16 and f16, the latter two named
/// `name_bf16` and `name_f16`; with `partial` also those that make f32 of 16 bits, and with `mixed` those that make 16 bits
/// of f32 too.
macro_rules! shaders {
    (same $($rest:tt)*) => {
        shaders!(@each $($rest)* [] ["_bf16" "1" "1"] ["_f16" "2" "2"])
    };
    (partial $($rest:tt)*) => {
        shaders!(@each $($rest)* [] ["_bf16" "1" "1"] ["_f16" "2" "2"] ["_bf16_to_f32" "1" "0"] ["_f16_to_f32" "2" "0"])
    };
    (mixed $($rest:tt)*) => {
        shaders!(@each $($rest)* [] ["_bf16" "1" "1"] ["_f16" "2" "2"] ["_bf16_to_f32" "1" "0"] ["_f16_to_f32" "2" "0"]
            ["_f32_to_bf16" "0" "1"] ["_f32_to_f16" "0" "2"])
    };
    (@each $name:tt $source:literal $macros:tt $($types:tt)*) => {
        [$(shaders!(@one $name $source $macros $types)),*]
    };
    (@one [$($name:tt)*] $source:literal [$($macro:expr),*] [$($suffix:literal $storage:literal $result:literal)?]) => {
        graph::Shader {
            name: concat!($($name),* $(, $suffix)?),
            source: $source,
            defines: &[$($macro,)* $(("STORAGE", $storage), ("RESULT", $result))?],
            spirv: spirv!($($name),* $(, $suffix)?),
        }
    };
}

/// `shader_list!(A, B)`: all shaders of these arrays, for a card.
macro_rules! shader_list {
    ($($array:path),+) => {
        &$crate::common::stored::concat::<{ 0 $(+ $array.len())+ }>(&[$(&$array),+])
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
