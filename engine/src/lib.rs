//! The built-in license engine: the deployment's key material, readable license keys, sealed keys, and license files.
//!
//! It has no storage of its own. A license key is derived from the license's id, so that making it twice makes the same
//! one; what was issued, and in which state it is, stands in the log. Only [`keys`] touches the disk and asks for
//! randomness; everything else is a pure function. Nothing here reads a clock: a license file is judged at the `now`
//! that the caller hands in.

pub mod file;
pub mod key;
pub mod keys;
pub mod seal;
