# The day's commands.

# GLSL to SPIR-V; needs a C++ compiler, and its product is committed.
shaders *flags:
    cargo run --release --manifest-path tools/shaders/Cargo.toml -- {{flags}}
