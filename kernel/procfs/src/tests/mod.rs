//! /proc of whole kernels, read by path while their programs run.

mod bench;
mod of_processes;
mod of_system;
mod places;

use bench::{Bench, ROOT, Viewer, asleep, read_all, wait, write};
