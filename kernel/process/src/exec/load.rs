//! Putting the segments of a program, and of its interpreter, in place.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::fallible::try_zeroed;
use abi::memory::{MapFlags, Protection};
use abi::{Errno, Result};
use memory::{AddressSpace, Backing, MapRequest, MappedFile, ProgramLayout, USER_TOP};
use vfs::{Lookup, OpenFile};

use super::elf::{HEADER, Header, Program, Segment};
use super::script::BEGINNING;
use super::stack::Finished;
use super::{beginning_of, open, read};
use crate::Thread;

/// A program's file, understood.
pub struct Binary {
    header: Header,
    program: Program,
    file: Arc<MappedFile>,
}

impl Binary {
    /// Reads the headers of an ELF file whose first bytes are known.
    ///
    /// # Errors
    /// `ENOEXEC`, `ENOMEM`, `EIO`.
    pub async fn read(thread: &Arc<Thread>, file: &Arc<OpenFile>, beginning: &[u8; BEGINNING]) -> Result<Binary> {
        let header = Header::parse(beginning.get(..HEADER).unwrap_or_default())?;
        let mut bytes = try_zeroed(header.headers_length())?;
        // What can't be read is no program, as on Linux; but want of memory is no fault of the file.
        let refusal = |errno| if errno == Errno::ENOMEM { errno } else { Errno::ENOEXEC };
        if read(thread, file, header.headers, &mut bytes).await.map_err(refusal)? < bytes.len() {
            return Err(Errno::ENOEXEC);
        }
        let program = Program::parse(&header, &bytes)?;
        let file = file.mapping()?;
        Ok(Binary { header, program, file })
    }

    /// Whether it executes code on its stack.
    pub fn has_executable_stack(&self) -> bool {
        self.program.executable_stack
    }

    /// The path of the interpreter it wants.
    ///
    /// # Errors
    /// `ENOEXEC` if the path is not ended by a zero, `EIO`.
    pub async fn interpreter(&self, thread: &Arc<Thread>, file: &OpenFile) -> Result<Option<Vec<u8>>> {
        let Some(range) = self.program.interpreter.clone() else { return Ok(None) };
        let mut path = try_zeroed((range.end - range.start) as usize)?;
        if read(thread, file, range.start, &mut path).await? < path.len() {
            return Err(Errno::EIO);
        }
        if path.last() != Some(&0) {
            return Err(Errno::ENOEXEC);
        }
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
        path.truncate(end);
        Ok(Some(path))
    }
}

/// Opens the interpreter of a dynamic program.
///
/// # Errors
/// Those of open(2); `ELIBBAD` if it is no program, `EIO` if it is cut off.
pub async fn open_interpreter(thread: &Arc<Thread>, path: &[u8]) -> Result<Binary> {
    let file = open(thread, None, path, Lookup::FOLLOW).await?;
    let beginning = beginning_of(thread, &file).await?;
    Binary::read(thread, &file, &beginning).await.map_err(|errno| match errno {
        Errno::ENOEXEC | Errno::EINVAL => Errno::ELIBBAD,
        other => other,
    })
}

/// A program in place.
pub struct Loaded {
    /// Where the thread starts: the interpreter's entry, or the program's.
    pub start: usize,
    /// The program's entry.
    pub program_entry: usize,
    /// Where its program headers are.
    pub headers: usize,
    /// How many.
    pub header_count: usize,
    /// Where the interpreter is; 0 without one.
    pub interpreter_base: usize,
    code: core::ops::Range<usize>,
    data: core::ops::Range<usize>,
}

impl Loaded {
    /// As /proc shows it.
    pub fn layout(&self, stack: &Finished) -> ProgramLayout {
        ProgramLayout {
            code: self.code.clone(),
            data: self.data.clone(),
            stack: stack.pointer,
            arguments: stack.arguments.clone(),
            environment: stack.environment.clone(),
        }
    }
}

/// Loads a program and its interpreter.
///
/// # Errors
/// `EINVAL`, `ENOEXEC`, `ENOMEM`: what is wrong with segments.
pub async fn place(space: &AddressSpace, binary: &Binary, interpreter: Option<&Binary>) -> Result<Loaded> {
    let program = &binary.program;
    let extent = program.extent();
    let base = if binary.header.relocatable {
        let alignment = program.alignment();
        let wish = space.program_base() & !(alignment - 1);
        wish.checked_sub(extent.start & !(alignment - 1)).ok_or(Errno::EINVAL)?
    } else {
        0
    };
    map(space, binary, base).await?;
    let moved = |address: usize| address.wrapping_add(base);
    space.set_initial_break(moved(extent.end));
    let program_entry = moved(binary.header.entry as usize);
    let (start, interpreter_base) = match interpreter {
        None => (program_entry, 0),
        Some(interpreter) => {
            let base = place_interpreter(space, interpreter).await?;
            (base.wrapping_add(interpreter.header.entry as usize), base)
        }
    };
    let executable = |segment: &&Segment| segment.protection.contains(Protection::EXECUTE);
    let code = hull(program.segments.iter().filter(executable), base);
    // As Linux counts it: from the last segment, whatever is in it, to the end of the last bytes from the file.
    let last = program.segments.iter().map(|segment| moved(segment.address)).max().unwrap_or_default();
    let data = last..hull(program.segments.iter(), base).end;
    Ok(Loaded {
        start,
        program_entry,
        headers: if program.headers == 0 { 0 } else { moved(program.headers) },
        header_count: binary.header.count.into(),
        interpreter_base,
        code,
        data,
    })
}

/// From the first to the end of the last.
fn hull<'a>(segments: impl Iterator<Item = &'a Segment>, base: usize) -> core::ops::Range<usize> {
    let (mut start, mut end) = (usize::MAX, 0);
    for segment in segments {
        start = start.min(segment.address.wrapping_add(base));
        end = end.max(segment.address.wrapping_add(base).wrapping_add(segment.file_length));
    }
    start.min(end)..end
}

/// Where mappings go that may go anywhere. Returns what was added to the addresses.
async fn place_interpreter(space: &AddressSpace, binary: &Binary) -> Result<usize> {
    let extent = binary.program.extent();
    let base = if binary.header.relocatable {
        let alignment = binary.program.alignment();
        let length = extent.end.checked_sub(extent.start).filter(|length| *length > 0).ok_or(Errno::EINVAL)?;
        let room = length.checked_add(alignment).ok_or(Errno::ENOMEM)?;
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::NO_RESERVE;
        let protection = Protection::empty();
        let backing = Backing::Anonymous;
        // Reserve the room once to find a place; the segments are then mapped where it was.
        let found = space.map(&MapRequest { address: 0, length: room, protection, flags, backing })?;
        space.unmap(found, room).await?;
        let start = found.checked_next_multiple_of(alignment).ok_or(Errno::ENOMEM)?;
        start.checked_sub(extent.start).ok_or(Errno::EINVAL)?
    } else {
        0
    };
    map(space, binary, base).await?;
    Ok(base)
}

/// Maps all segments, moved by `base`.
async fn map(space: &AddressSpace, binary: &Binary, base: usize) -> Result<()> {
    if binary.program.broken {
        return Err(Errno::EINVAL);
    }
    for segment in &binary.program.segments {
        let address = segment.address.checked_add(base).filter(|address| *address < USER_TOP).ok_or(Errno::EINVAL)?;
        space
            .map_segment(
                address,
                segment.memory_length,
                &binary.file,
                segment.offset,
                segment.file_length,
                segment.protection,
            )
            .await?;
    }
    Ok(())
}
