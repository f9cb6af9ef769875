//! The frame source of a machine that is the only one.

use super::FrameSource;
use spin::Once;

static SOURCE: Once<&'static dyn FrameSource> = Once::new();

/// The source in charge, if one is.
#[inline]
pub fn source() -> Option<&'static dyn FrameSource> {
    SOURCE.get().copied()
}

/// Puts `source` in charge; false if there is one already.
pub fn install(source: &'static dyn FrameSource) -> bool {
    let mut first = false;
    SOURCE.call_once(|| {
        first = true;
        source
    });
    first
}
