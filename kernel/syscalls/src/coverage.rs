//! The coverage page: the table as Markdown, for docs/.

#![expect(clippy::disallowed_methods, reason = "for the page in docs/, never while programs run")]

use alloc::string::String;
use core::fmt::{self, Write};

use crate::argument::Argument;
use crate::table::{ABSENT, name_of};

/// One argument of a row, as the page shows it.
struct ArgumentRow {
    name: &'static str,
    kind: &'static str,
    flags: &'static [(u32, &'static str)],
}

/// The page docs/system-calls.md: every call by topic with its arguments, the flags that are done, and what is absent.
pub fn coverage_markdown() -> String {
    let mut page = String::new();
    // Writing to a `String` can't fail: there is no error to report.
    let _ = write_page(&mut page);
    page
}

fn write_page(page: &mut String) -> fmt::Result {
    page.write_str(
        "# System calls\n\n\
         Made from the table in `kernel/syscalls/src/table.rs` by `UPDATE_DOCS=1 cargo test -p syscalls`; a test compares them.\n\
         A call that is not listed answers `ENOSYS`. A flag that is not listed gets the error Linux gives for a flag it\n\
         does not know.\n",
    )?;
    write_topics(page)?;
    write!(page, "\n## Absent\n\nLinux has these {} and Orrery does not yet; they answer `ENOSYS`:\n\n", ABSENT.len())?;
    for (index, number) in ABSENT.iter().enumerate() {
        let name = name_of(*number as usize).unwrap_or("?");
        write!(page, "{}`{name}`", if index == 0 { "" } else { ", " })?;
    }
    page.write_str(".\n")
}

fn write_row(page: &mut String, number: u32, name: &str, arguments: &[ArgumentRow]) -> fmt::Result {
    write!(page, "| {number} | `{name}` | ")?;
    for (index, argument) in arguments.iter().enumerate() {
        write!(page, "{}`{}: ", if index == 0 { "" } else { ", " }, argument.name)?;
        // Compilers differ in where they put blanks when they write a type out.
        // bounded: for the page in docs/, never while programs run
        page.extend(argument.kind.chars().filter(|character| *character != ' '));
        page.push('`');
    }
    page.write_str(" | ")?;
    for (index, (_, flag)) in arguments.iter().flat_map(|argument| argument.flags).enumerate() {
        write!(page, "{}`{flag}`", if index == 0 { "" } else { " " })?;
    }
    page.write_str(" |\n")
}

macro_rules! topics {
    ($($topic:ident { $($(#[$only:meta])? $number:ident: $kind:ident $function:ident $(then $waiting:ident)? ($($argument:ident: $type:ty),*);)* })*) => {
        fn write_topics(page: &mut String) -> fmt::Result {
            use crate::table::types::*;
            $(
                let topic = stringify!($topic);
                write!(page, "\n## {topic}\n\n| number | name | arguments | flags that are done |\n| --- | --- | --- | --- |\n")?;
                $(
                    $(#[$only])?
                    write_row(page, abi::raw::general::$number, crate::table::strip(stringify!($number)), &[
                        $(ArgumentRow {
                            name: stringify!($argument),
                            kind: stringify!($type),
                            flags: <$type as Argument>::FLAGS,
                        },)*
                    ])?;
                )*
            )*
            Ok(())
        }
    };
}
system_calls!(topics);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_calls_arguments_and_flags() {
        let page = coverage_markdown();
        assert!(page.contains("| 39 | `getpid` |  |  |\n"), "{page}");
        assert!(page.contains("| `pid: i32`, `status: Out<i32>`, `options: Flags<WaitOptions>`,"));
        assert!(page.contains("`O_CLOEXEC`"));
        assert!(page.contains("`socket`"));
        assert!(!page.contains("`__NR_"));
    }

    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/system-calls.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, coverage_markdown()).unwrap();
        }
        let docs = std::fs::read_to_string(path).unwrap_or_default();
        assert!(docs == coverage_markdown(), "docs/src/system-calls.md is stale: UPDATE_DOCS=1 cargo test -p syscalls");
    }
}
