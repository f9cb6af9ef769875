//! `mounts`, `mountinfo` and `mountstats`: proc_pid_mounts(5), proc_pid_mountinfo(5).

use abi::{Errno, Result};
use process::Process;
use vfs::Mount;

use crate::node::{Cursor, PART, Step};
use crate::subject::Subject;
use crate::text::Text;

pub(crate) fn mounts(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(process, text, cursor, |mount, point, text| mount.mounts_line(point, text))
}

pub(crate) fn mountinfo(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(process, text, cursor, |mount, point, text| mount.mountinfo_line(point, text))
}

/// The same mounts in words: `device SOURCE mounted on PLACE with fstype TYPE`.
pub(crate) fn mountstats(_: &Subject, process: &Process, text: &mut Text, cursor: &mut Cursor) -> Result<Step> {
    each_mount(process, text, cursor, |mount, point, text| mount.mountstats_line(point, text))
}

/// How far is gone from mounts up to the root before others are to run: a process may see none of them, or lie very deep.
const STEPS_AT_ONCE: usize = 4096;

/// Shows the mounts behind the one with the number `cursor.at`, as the process sees them: those at or below its root.
fn each_mount(
    process: &Process,
    text: &mut Text,
    cursor: &mut Cursor,
    show: impl Fn(&Mount, &[u8], &mut Text) -> Result<()>,
) -> Result<Step> {
    // A zombie sees none.
    process.space().ok_or(Errno::ESRCH)?;
    let (mounts, root) = (process.namespaces().mounts(), process.fs_context().root());
    let mut steps = 0;
    while text.len() < PART {
        if steps >= STEPS_AT_ONCE {
            return Ok(Step::Pause);
        }
        // What is to be done for each costs as much as some steps.
        steps += 16;
        let Some(mount) = mounts.after(cursor.at) else { return Ok(Step::End) };
        cursor.at = mount.id();
        if let Some(point) = mount.place_below(&root, &mut steps)? {
            show(&mount, &point, text)?;
        }
    }
    Ok(Step::More)
}
