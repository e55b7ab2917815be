//! What fuzzers try: for each reader of text from outside a function that takes any bytes and asserts what must hold of them.
//!
//! The functions are ordinary ones: `cargo fuzz` calls them from `fuzz/`, and `tests/corpora.rs` calls them with every
//! file of the committed corpora. Where it can be, what is read is held against a second, naive reading that shares no
//! code with the first. `fuzz/README.md` says what each target asserts.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a target that does not hold must stop the fuzzer")]

pub mod cursor;
pub mod exchange;
pub mod license_file;
pub mod license_key;
pub mod search;
pub mod settings;
pub mod signature_header;
pub mod stripe_reader;

/// What is called with every input.
pub type Target = fn(&[u8]);

/// Every target with its name, which is also the name of its corpus and of its program in `fuzz/`.
pub const TARGETS: [(&str, Target); 8] = [
    ("cursor", cursor::cursor),
    ("exchange", exchange::exchange),
    ("license_file", license_file::license_file),
    ("license_key", license_key::license_key),
    ("search", search::search),
    ("settings", settings::settings),
    ("signature_header", signature_header::signature_header),
    ("stripe_reader", stripe_reader::stripe_reader),
];
