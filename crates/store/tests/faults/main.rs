//! The store under faults at every change that it makes to the disk. Needs root, and the feature `fault-injection`.
#![cfg(feature = "fault-injection")]

#[path = "../store/common.rs"]
#[allow(dead_code)]
mod common;
mod crash;
mod model;
mod operations;
mod view;
