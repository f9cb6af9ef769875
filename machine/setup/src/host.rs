//! What the host says of this process and its limits (proc(5)).

use std::ops::Range;

/// Mappings the host allows a process.
pub fn mapping_limit() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    text.trim().parse().unwrap_or(65530)
}

/// Where the host put its code for this process (vdso(7)), if it did, and where to move it.
pub struct Vdso {
    /// Where it is.
    pub range: Range<usize>,
    /// Where it may go.
    pub to: usize,
}

impl Vdso {
    /// Looks it up. The place to move it is the first multiple of 4 GiB where nothing is.
    pub fn find() -> Option<Vdso> {
        Vdso::among(&std::fs::read_to_string("/proc/self/maps").ok()?)
    }

    /// The same, by what that file says.
    fn among(maps: &str) -> Option<Vdso> {
        let address = |digits: &str| usize::from_str_radix(digits, 16).ok();
        let range = |line: &str| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            Some(address(start)?..address(end)?)
        };
        let vdso = maps.lines().find(|line| line.ends_with("[vdso]")).and_then(range)?;
        let is_free = |to: usize| {
            let overlaps = |other: Range<usize>| other.start < to + vdso.len() && to < other.end;
            !maps.lines().filter_map(range).any(overlaps)
        };
        let to = (1..64).map(|multiple| multiple << 32).find(|to| is_free(*to))?;
        Some(Vdso { range: vdso, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_moved_to_where_nothing_is() {
        let maps = "100000000-100001000 r--p 0 00:00 0 /bin/x\n1fffff000-200001000 rw-p 0 00:00 0\n\
                    7ffff000-80001000 r-xp 0 00:00 0    [vdso]\n";
        let vdso = Vdso::among(maps).unwrap();
        assert_eq!((vdso.range, vdso.to), (0x7fff_f000..0x8000_1000, 3 << 32));
        assert!(Vdso::among("1000-2000 r--p 0 00:00 0 /bin/x\n").is_none());
        assert!(mapping_limit() > 0);
    }
}
