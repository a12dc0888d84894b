# The day's commands; each is one line that works without `just` too.

# Type-check everything.
check:
    cargo check --workspace --all-targets

# All tests.
test:
    cargo test

# All ops on this machine's GPUs, model shapes included.
test-gpu device="cuda":
    cargo run --release -- check --device {{device}} --large

# Which op runs where.
ops:
    cargo run --release -- ops

# Every op's speed beside this machine's limit.
bench device="best":
    cargo run --release -- bench ops --device {{device}}

# Compile the shaders that changed.
shaders:
    cargo run --release --manifest-path tools/shaders/Cargo.toml

fmt:
    cargo fmt --all
