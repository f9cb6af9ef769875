//! Streams on a Linux host: open files that whoever starts the machine hands over; nothing is opened by name.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `console` | [`Console`]: what the standard streams are; [`Streams`]: how they become the boundary's |
//! | `stream` | [`ByteStream`]: an open file of the host as a device |

mod console;
mod stream;

pub use console::{Console, StandardStream, Streams, Terminal};
pub use stream::ByteStream;

use std::sync::Arc;

/// What hears an interrupt: it wakes and queues only.
pub type Handler = Arc<dyn Fn() + Send + Sync>;

/// What to do when something happened that the kernel wanted to know; any thread calls it.
pub type Interrupt = Box<dyn Fn() + Send + Sync>;

/// Makes a handler one of the machine's: what is returned lets one of its CPUs call it. Called by the kernel.
pub type Connect = fn(Handler) -> Interrupt;
