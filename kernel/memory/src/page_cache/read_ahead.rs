//! How much to read before it is asked for.
//!
//! Who reads one page after the other is a *stream*. Each time a stream comes to the end of what was read for it, twice as much is
//! read, up to [`MOST`]; and the next part is asked for when half of the last is used, so that it is there in time. Who jumps about
//! gets the pages he names. Two streams are known for each file, as two programs or a merge may read it.

use core::sync::atomic::{AtomicU64, Ordering};

/// Pages of one request at most: 128 KiB, Linux's `read_ahead_kb`.
pub(super) const MOST: u64 = 32;

/// Pages read where a file is first read, at its beginning.
const FIRST: u64 = 4;

/// Where somebody reads on.
#[derive(Clone, Copy, Default)]
struct Stream {
    /// The first page that has not been asked for. 0: there is no stream.
    next: u64,
    /// Pages of the last request.
    window: u64,
    /// When this page is used, it is time for more. 0: none is waited for.
    mark: u64,
}

/// The streams of a file, the one used last first.
#[derive(Default)]
pub(super) struct ReadAhead {
    streams: [Stream; 2],
}

/// The marks of a file's streams, to be looked at without its lock.
#[derive(Default)]
pub(super) struct Marks([AtomicU64; 2]);

impl Marks {
    /// Whether it may be time to read on when page `index` is used.
    #[inline]
    pub fn has(&self, index: u64) -> bool {
        index != 0 && self.0.iter().any(|mark| mark.load(Ordering::Relaxed) == index)
    }

    /// Follows the streams, which have changed. The caller has the file's lock.
    pub fn set(&self, streams: &ReadAhead) {
        for (mark, stream) in self.0.iter().zip(&streams.streams) {
            mark.store(stream.mark, Ordering::Relaxed);
        }
    }
}

impl ReadAhead {
    /// Page `index` is missing, and so many from there on are asked for. Returns how many to read.
    pub fn miss(&mut self, index: u64, asked: u64) -> u64 {
        let before = self.take(|stream| {
            stream.next != 0 && (stream.mark..=stream.next).contains(&index) && index + MOST > stream.next
        });
        let window = match before {
            Some(stream) => (2 * stream.window).max(asked),
            None if index == 0 => asked.max(FIRST),
            None => asked,
        };
        self.put(index, window.clamp(1, MOST))
    }

    /// Page `index` is used. Returns what to read now, as its first page and how many.
    pub fn hit(&mut self, index: u64) -> Option<(u64, u64)> {
        if self.streams.iter().all(|stream| stream.mark != index || index == 0) {
            return None;
        }
        let stream = self.take(|stream| stream.mark == index)?;
        let window = self.put(stream.next, (2 * stream.window).min(MOST));
        Some((stream.next, window))
    }

    fn take(&mut self, is_it: impl Fn(&Stream) -> bool) -> Option<Stream> {
        let stream = self.streams.iter_mut().find(|stream| is_it(stream))?;
        Some(core::mem::take(stream))
    }

    /// `window` pages are read from `first` on. A single page is no stream yet, and needs no mark.
    fn put(&mut self, first: u64, window: u64) -> u64 {
        let mark = if window > 1 { first + window / 2 } else { first + window };
        let [newest, oldest] = &mut self.streams;
        if newest.next != 0 {
            *oldest = *newest;
        }
        *newest = Stream { next: first + window, window, mark };
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads pages in this order, each found if it was read before. Returns the requests.
    fn requests(order: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let mut ahead = ReadAhead::default();
        let mut read = std::collections::BTreeSet::new();
        let mut requests = Vec::new();
        for index in order {
            let request = if read.contains(&index) { ahead.hit(index) } else { Some((index, ahead.miss(index, 1))) };
            if let Some((first, pages)) = request {
                read.extend(first..first + pages);
                requests.push((first, pages));
            }
        }
        requests
    }

    #[test]
    fn who_reads_on_gets_twice_as_much_each_time_and_in_time() {
        assert_eq!(requests(0..100), [(0, 4), (4, 8), (12, 16), (28, 32), (60, 32), (92, 32)]);
        assert_eq!(requests(1000..1040)[..6], [(1000, 1), (1001, 2), (1003, 4), (1007, 8), (1015, 16), (1031, 32)]);
    }

    #[test]
    fn who_jumps_about_gets_what_he_names() {
        assert_eq!(requests([7, 3, 900, 12, 44, 5]), [(7, 1), (3, 1), (900, 1), (12, 1), (44, 1), (5, 1)]);
    }

    #[test]
    fn two_who_read_on_are_both_known() {
        let both = (0..64).flat_map(|page| [page, 5000 + page]);
        let requests = requests(both);
        assert!(requests.len() < 16, "{requests:?}");
        assert!(requests.contains(&(28, 32)) && requests.contains(&(5031, 32)), "{requests:?}");
    }
}
