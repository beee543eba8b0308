//! Pickles, read as inert data.
//!
//! A pickle is a program for a stack machine; Python's own reader imports what it names and calls what it says. This one
//! only notes what would be named, called and set: the result is a [`Graph`] of plain values. Opcodes and names outside
//! an allow-list are refused (see [`globals`]), and the memory, depth and length of everything is bounded before it is
//! allocated (see [`crate::limits`]).
//!
//! Format: the comments of Python's `pickletools` module, protocols 1 to 5 as PyTorch writes them.

#[cfg(test)]
pub(super) mod assemble;
pub(super) mod globals;
mod graph;
mod machine;
#[cfg(test)]
mod malicious;
mod objects;

pub(super) use graph::{Graph, Node, Value};
pub(super) use machine::load;
