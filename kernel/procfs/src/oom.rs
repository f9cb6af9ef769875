//! `oom_score` and `oom_score_adj`: who has to end when memory is out.

use abi::{Errno, Result};
use machine::memory::FrameSource;
use process::Process;
use process::credentials::Capability;

use crate::node::Writer;
use crate::subject::Subject;
use crate::text::Text;

/// The adjustment with which nothing is ever ended.
const NEVER: i32 = -1000;

/// How likely the process is chosen, 0 to 2000.
pub(crate) fn score(_: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    let total = process.kernel().memory().frames().total_frames().max(1);
    let adjustment = process.out_of_memory_adjustment();
    let score = match process.space() {
        Some(space) if adjustment != NEVER => {
            let thousandths = (space.usage().resident * 1000 / total) as i64;
            // As Linux has it: two thirds of (1000 + share + adjustment).
            ((1000 + thousandths + i64::from(adjustment)) * 2 / 3).clamp(0, 2000)
        }
        _ => 0,
    };
    text.put(format_args!("{score}\n"));
    Ok(())
}

/// What is added to that.
pub(crate) fn adjustment(_: &Subject, process: &Process, text: &mut Text) -> Result<()> {
    text.put(format_args!("{}\n", process.out_of_memory_adjustment()));
    Ok(())
}

/// Anybody who may write the file may raise it.
pub(crate) fn set_adjustment(_: &Subject, process: &Process, bytes: &[u8], writer: Writer) -> Result<()> {
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let value: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
    if !(-1000..=1000).contains(&value) {
        return Err(Errno::EINVAL);
    }
    let writer = process.kernel().processes().thread(writer.thread).ok_or(Errno::ESRCH)?;
    if value < process.out_of_memory_adjustment() && !writer.credentials().has(Capability::SysResource) {
        return Err(Errno::EACCES);
    }
    process.set_out_of_memory_adjustment(value);
    Ok(())
}
