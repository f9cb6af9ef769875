//! riscv64's: the extensions of the instruction set, and how wide addresses are.

use abi::Result;

use crate::system::View;
use crate::text::Text;

/// What `AT_HWCAP` says, as the manual names it.
const EXTENSIONS: &str = "rv64imafdc";

/// Once for each CPU: they are alike. No vendor has made them.
pub(crate) fn cpuinfo(_: &View<'_>, text: &mut Text) -> Result<()> {
    for index in 0..machine::cpu::count() {
        text.put(format_args!("processor\t: {index}\nhart\t\t: {index}\nisa\t\t: {EXTENSIONS}\nmmu\t\t: sv48\n"));
        text.put(format_args!("mvendorid\t: 0x0\nmarchid\t\t: 0x0\nmimpid\t\t: 0x0\nhart isa\t: {EXTENSIONS}\n\n"));
    }
    Ok(())
}
