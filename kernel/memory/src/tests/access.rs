//! User access and cursors.

use super::*;
use crate::{Destination, UserFault, UserSlice};
use machine::memory::Frame;

#[test]
fn values_cross_pages_and_fault_them_in() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 3, READ_WRITE, PRIVATE).unwrap();
    wait(space.write_value(area + PAGE - 3, &0x1122_3344_5566_7788_u64)).unwrap();
    assert_eq!(wait(space.read_value::<u64>(area + PAGE - 3)), Ok(0x1122_3344_5566_7788));
    let bytes: Vec<u8> = (0..2 * PAGE).map(|at| at as u8).collect();
    wait(space.copy_out(area + 100, &bytes)).unwrap();
    assert_eq!(wait(space.read_array::<u16>(area + 100, 3)), Ok(vec![0x100, 0x302, 0x504]));
    wait(space.zero(area + 101, PAGE)).unwrap();
    assert_eq!((space.byte(area + 100 + PAGE), space.byte(area + 101 + PAGE)), (Ok(0), Ok(1)));
}

#[test]
fn what_is_not_there_is_efault() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0x1000_0000, 2, READ, FIXED).unwrap();
    assert_eq!(wait(space.write_value(area, &1_u8)), Err(Errno::EFAULT));
    assert_eq!(wait(space.read_value::<u64>(area + 2 * PAGE - 4)), Err(Errno::EFAULT));
    for address in [0, usize::MAX, usize::MAX - 7, crate::USER_TOP, crate::USER_TOP - 4, 0xffff_8000_0000_0000] {
        assert_eq!(wait(space.read_value::<u64>(address)), Err(Errno::EFAULT));
        assert_eq!(wait(space.write_value(address, &7_u64)), Err(Errno::EFAULT));
        assert_eq!(wait(space.read_c_string(address, 100)), Err(Errno::EFAULT));
        assert_eq!(wait(space.zero(address, 8)), Err(Errno::EFAULT));
    }
    let top = space.map_stack().unwrap();
    assert_eq!(wait(space.read_value::<u64>(top - 4)), Err(Errno::EFAULT), "half a value at the very top");
    assert_eq!(wait(space.read_array::<u64>(area, usize::MAX / 4)), Err(Errno::ENOMEM));
}

#[test]
fn strings_end_at_their_nul() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0x1000_0000, 1, READ_WRITE, FIXED).unwrap();
    wait(space.copy_out(area + PAGE - 6, b"hello\0")).unwrap();
    assert_eq!(wait(space.read_c_string(area + PAGE - 6, 4096)), Ok(b"hello".to_vec()), "the next page doesn't exist");
    assert_eq!(wait(space.read_c_string(area + PAGE - 6, 6)), Ok(b"hello".to_vec()));
    assert_eq!(wait(space.read_c_string(area + PAGE - 6, 5)), Err(Errno::ENAMETOOLONG));
    wait(space.copy_out(area, &[b'x'; 300])).unwrap();
    assert_eq!(wait(space.read_c_string(area, 4096)).map(|string| string.len()), Ok(300));
    wait(space.copy_out(area + PAGE - 1, b"!")).unwrap();
    assert_eq!(wait(space.read_c_string(area + PAGE - 6, 4096)), Err(Errno::EFAULT), "no NUL before the hole");
}

#[test]
fn words_are_exchanged() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    assert_eq!(wait(space.load(area)), Ok(0));
    assert_eq!(wait(space.compare_exchange(area, 0, 5)), Ok(Ok(0)));
    assert_eq!(wait(space.compare_exchange(area, 0, 6)), Ok(Err(5)));
    assert_eq!(wait(space.load(area + 2)), Err(Errno::EINVAL));
    assert_eq!(wait(space.compare_exchange(area + 1, 0, 6)), Err(Errno::EINVAL));
    assert_eq!(wait(space.load(0)), Err(Errno::EFAULT));
}

#[test]
fn a_destination_stops_exactly_at_a_fault_and_goes_on() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 2, READ_WRITE, PRIVATE).unwrap();
    let mut to = Destination::user(&space, area + PAGE - 10, 30);
    space.set_byte(area, 0).unwrap();
    let text = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let fault = to.write(text).unwrap_err();
    assert_eq!(fault, UserFault { copied: 10, address: (area + PAGE).into(), write: true });
    assert_eq!((to.progress(), to.remaining()), (10, 20));
    wait(to.fault_in(fault)).unwrap();
    assert_eq!(to.write(&text[10..]), Ok(20));
    assert_eq!((to.progress(), to.remaining()), (30, 0));
    assert_eq!(to.write(b"more"), Ok(0));
    let mut read = [0; 30];
    wait(space.copy_in(area + PAGE - 10, &mut read)).unwrap();
    assert_eq!(&read, &text[..30]);
}

#[test]
fn vectors_are_walked_through() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    space.set_byte(area, 0).unwrap();
    let slice = |offset, length| UserSlice { address: area + offset, length };
    let slices = [slice(0, 3), slice(50, 0), slice(10, 2), slice(0, 0), slice(20, 4), slice(7, 0)];
    let mut to = Destination::vector(&space, &slices);
    assert_eq!(to.remaining(), 9);
    assert_eq!((to.write(b"abcd"), to.zero(1), to.write(b"efghij")), (Ok(4), Ok(1), Ok(4)));
    let mut from = Source::vector(&space, &slices);
    let mut all = [1; 20];
    assert_eq!(from.peek(&mut all), Ok(9));
    assert_eq!(&all[..9], b"abcd\0efgh");
    assert_eq!((from.progress(), from.remaining()), (0, 9));
    from.advance(4);
    let frame = Frame::zeroed().unwrap();
    assert_eq!(from.read_to_frame(&frame, 4090, 100), Ok(5));
    let mut bytes = [9; 6];
    assert_eq!(frame.read(4090, &mut bytes), 6);
    assert_eq!(&bytes, b"\0efgh\0");
    assert_eq!((from.progress(), from.remaining()), (9, 0));
}

#[test]
fn hostile_slices_fault_and_never_loop() {
    let kernel = kernel();
    let space = kernel.space();
    let top = space.map_stack().unwrap();
    space.set_byte(top - 1, 0).unwrap();
    let slices = [UserSlice { address: top - 4, length: usize::MAX }, UserSlice { address: 5, length: usize::MAX }];
    let mut to = Destination::vector(&space, &slices);
    assert_eq!(to.remaining(), usize::MAX);
    let fault = to.write(b"abcdefgh").unwrap_err();
    assert_eq!((fault.copied, to.progress()), (4, 4));
    assert_eq!(wait(to.fault_in(fault)), Err(Errno::EFAULT));
    let mut from = Source::user(&space, usize::MAX - 2, 100);
    let fault = from.read(&mut [0; 10]).unwrap_err();
    assert_eq!(wait(from.fault_in(fault)), Err(Errno::EFAULT));
}

#[test]
fn waiting_operations_may_move_between_cpus() {
    fn is_send(_: impl Send) {}
    let kernel = kernel();
    let space = kernel.space();
    let to = Destination::user(&space, 0, 1);
    is_send(to.fault_in(UserFault { copied: 0, address: 0_usize.into(), write: true }));
    is_send(space.unmap(0, PAGE));
    is_send(space.clear());
    is_send(space.set_break(0));
    let small = space.read_value::<u64>(0);
    assert!(size_of_val(&small) < 512, "a thread's future has room for 4 KiB in all: {}", size_of_val(&small));
}

#[test]
fn kernel_slices_are_cursors_too() {
    let mut bytes = [0; 5];
    let mut to = Destination::kernel(&mut bytes);
    assert_eq!((to.write(b"abc"), to.write(b"defg"), to.remaining(), to.progress()), (Ok(3), Ok(2), 0, 5));
    assert_eq!(&bytes, b"abcde");
    let mut from = Source::kernel(b"12345");
    let mut two = [0; 2];
    assert_eq!((from.read(&mut two), from.peek(&mut two), from.remaining()), (Ok(2), Ok(2), 3));
    assert_eq!(&two, b"34");
}

/// Small numbers from a seed.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % limit
    }
}

/// Pieces of a page at `area`, which may lie in one another, and where in it their bytes are.
fn pieces(area: usize, next: &mut impl FnMut(usize) -> usize) -> (Vec<UserSlice>, Vec<usize>) {
    let slices: Vec<UserSlice> =
        (0..next(6)).map(|_| UserSlice { address: area + next(PAGE - 64), length: next(4) * next(16) }).collect();
    let places = slices.iter().flat_map(|slice| (0..slice.length).map(|at| slice.address - area + at)).collect();
    (slices, places)
}

/// Whatever is done with a source, in whatever order: it gives the bytes of its pieces one after the other.
#[test]
fn a_source_agrees_with_a_plain_slice() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    let bytes: Vec<u8> = (0..PAGE).map(|at| (at * 7 % 251) as u8).collect();
    wait(space.copy_out(area, &bytes)).unwrap();
    let frame = Frame::zeroed().unwrap();
    let mut next = random(3);
    for round in 0..1000 {
        let (slices, places) = pieces(area, &mut next);
        let all: Vec<u8> = places.iter().map(|&place| bytes[place]).collect();
        let mut from = if round % 2 == 0 { Source::vector(&space, &slices) } else { Source::kernel(&all) };
        let (mut at, mut end) = (0, all.len());
        for _ in 0..10 {
            let length = next(30);
            let part = &all[at..end][..length.min(end - at)];
            let mut read = vec![0; length];
            match next(6) {
                0 => {
                    assert_eq!(from.peek(&mut read), Ok(part.len()));
                    assert_eq!(&read[..part.len()], part);
                }
                1 => {
                    assert_eq!(from.read(&mut read), Ok(part.len()));
                    assert_eq!(&read[..part.len()], part);
                    at += part.len();
                }
                2 => {
                    from.advance(part.len());
                    at += part.len();
                }
                // The kernel's memory is never so long that some of it has to be hidden.
                3 if round % 2 == 0 => {
                    let hidden = from.hide(length);
                    assert_eq!((hidden, from.remaining()), (end - at - part.len(), part.len()));
                    assert_eq!(from.peek(&mut [0; 40]), Ok(part.len()));
                    from.show(hidden);
                }
                4 => {
                    from.limit(length);
                    end = at + part.len();
                }
                _ => {
                    assert_eq!(from.read_to_frame(&frame, PAGE - 20, length), Ok(part.len().min(20)));
                    let part = &part[..part.len().min(20)];
                    frame.read(PAGE - 20, &mut read[..part.len()]);
                    assert_eq!(&read[..part.len()], part);
                    at += part.len();
                }
            }
            assert_eq!((from.progress(), from.remaining()), (at, end - at));
        }
    }
}

/// Whatever is written to a destination, in whatever order: it fills its pieces one after the other, and nothing beside them.
#[test]
fn a_destination_agrees_with_a_plain_slice() {
    let kernel = kernel();
    let space = kernel.space();
    let area = space.anonymous(0, 1, READ_WRITE, PRIVATE).unwrap();
    let mut expected = vec![0; PAGE];
    wait(space.copy_out(area, &expected)).unwrap();
    let text: Vec<u8> = (1..=30).collect();
    let frame = Frame::zeroed().unwrap();
    frame.write(PAGE - 20, &text[..20]);
    let mut next = random(5);
    for _ in 0..300 {
        let (slices, places) = pieces(area, &mut next);
        let mut to = Destination::vector(&space, &slices);
        let (mut at, mut hidden) = (0, 0);
        for _ in 0..10 {
            let length = next(30);
            let left = places.len() - hidden - at;
            let (copied, bytes) = match next(4) {
                0 => (to.write(&text[..length]), &text[..length]),
                1 => (to.zero(length), &[0; 30][..length]),
                2 => (to.write_frame(&frame, PAGE - 20, length), &text[..length.min(20)]),
                _ => {
                    to.show(hidden);
                    hidden = to.hide(length);
                    assert_eq!(hidden, (places.len() - at).saturating_sub(length));
                    continue;
                }
            };
            assert_eq!(copied, Ok(bytes.len().min(left)));
            for (place, byte) in places[at..].iter().zip(&bytes[..bytes.len().min(left)]) {
                expected[*place] = *byte;
            }
            at += bytes.len().min(left);
            assert_eq!((to.progress(), to.remaining()), (at, places.len() - hidden - at));
        }
        let mut found = vec![0; PAGE];
        wait(space.copy_in(area, &mut found)).unwrap();
        assert_eq!(found, expected);
    }
}
