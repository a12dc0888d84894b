//! The device's own shaders: the ends of a step, copies, fills, and arithmetic to be measured.

use graph::Shader;

macro_rules! shaders {
    ($($(#[$doc:meta])* $name:ident $file:literal)*) => {$(
        $(#[$doc])*
        pub static $name: Shader = Shader {
            name: concat!("device_", $file),
            source: concat!("device/shaders/", $file, ".comp"),
            defines: &[],
            spirv: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file, ".spv")),
        };
    )*};
}

shaders! {
    /// Takes the inputs from their ring.
    BEGIN "begin"
    /// Puts the outputs into their ring and counts the replay.
    END "end"
    /// Copies words or quads of words.
    COPY "copy"
    /// Sets words.
    FILL "fill"
    /// Keeps the arithmetic units busy.
    MULTIPLY_ADD "multiply_add"
}

/// Threads of a group of these shaders.
pub const THREADS: u32 = 256;
