//! `docs/ops.md` is what the cards say.

#[test]
fn the_page_of_ops_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ops.md");
    let page = std::fs::read_to_string(&path).expect("docs/ops.md is there");
    let made = lab::support::markdown();
    assert!(page.trim_end() == made.trim_end(), "run `rondo ops --markdown > docs/ops.md`; it should read\n{made}");
}
