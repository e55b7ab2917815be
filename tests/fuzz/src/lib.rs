//! What fuzzers try.
