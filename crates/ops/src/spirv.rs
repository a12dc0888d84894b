//! `spirv!(name)`: the compiled shader of a name, empty while the shader tool runs.

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
