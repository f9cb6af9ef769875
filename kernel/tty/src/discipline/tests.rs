use super::*;
use abi::terminal::OutputFlags as Flag;

/// A discipline and what it did, driven like a person at a keyboard.
struct Desk {
    discipline: Discipline,
    effects: Effects,
}

impl Desk {
    fn new(change: impl FnOnce(&mut Termios)) -> Desk {
        let mut termios = Termios::default();
        change(&mut termios);
        Desk { discipline: Discipline::new(termios), effects: Effects::empty() }
    }

    fn keys(&mut self, keys: impl AsRef<[u8]>) -> &mut Desk {
        for &byte in keys.as_ref() {
            self.effects |= self.discipline.receive(&[Received::Byte(byte)], 0).1;
        }
        self
    }

    fn screen(&mut self) -> String {
        let mut bytes = [0; OUTPUT_SIZE];
        let length = self.discipline.fetch(&mut bytes);
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    /// What a read for `wanted` bytes returns; `None` if it would wait.
    fn read(&mut self, wanted: usize) -> Option<String> {
        match self.discipline.availability(wanted, 0, 0, true) {
            Availability::Later(_) => None,
            Availability::Now => {
                let front = self.discipline.front(wanted);
                let bytes = self.discipline.bytes(front.length).concat();
                self.effects |= self.discipline.consume(front, bytes.len());
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
        }
    }
}

fn without(termios: &mut Termios, flags: LocalFlags) {
    termios.c_lflag &= !flags.bits();
}

fn raw(termios: &mut Termios) {
    (termios.c_iflag, termios.c_oflag) = (0, 0);
    without(termios, LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::IEXTEN);
}

#[test]
fn a_line_is_readable_when_it_ends() {
    let mut desk = Desk::new(|_| {});
    desk.keys("ls -l");
    assert_eq!(desk.read(100), None);
    assert!(!desk.effects.contains(Effects::READABLE));
    desk.keys("\rpwd\r");
    assert!(desk.effects.contains(Effects::READABLE));
    assert_eq!(desk.screen(), "ls -l\r\npwd\r\n");
    assert_eq!(desk.discipline.input_waiting(), 10);
    assert_eq!(desk.read(100).unwrap(), "ls -l\n");
    assert_eq!(desk.read(2).unwrap(), "pw");
    assert_eq!(desk.read(2).unwrap(), "d\n");
    assert_eq!(desk.read(2), None);
}

#[test]
fn erase_keys_edit_the_buffer_and_the_screen() {
    let mut desk = Desk::new(|_| {});
    desk.keys("cat\x7f\x7fd  one_2 two\x17\x17\n");
    assert_eq!(desk.read(100).unwrap(), "cd  \n");
    let rub = |count| "\x08 \x08".repeat(count);
    assert_eq!(desk.screen(), format!("cat{}d  one_2 two{}\r\n", rub(2), rub(9)));
    desk.keys("junk\x01\x15\x7f");
    assert_eq!(desk.screen(), format!("junk^A{}", rub(6)), "nothing is left to erase after kill");
}

#[test]
fn a_tab_is_erased_to_where_it_began() {
    let mut desk = Desk::new(|_| {});
    desk.discipline.write(b"$ ");
    desk.keys("ab\t\x7f");
    assert_eq!(desk.screen(), "$ ab\t\x08\x08\x08\x08", "from column 8 back to column 4");
    desk.keys("\tc\t\x7f");
    assert_eq!(desk.screen(), format!("\tc\t{}", "\x08".repeat(7)), "from 16 back to 9");
}

#[test]
fn utf8_characters_are_erased_whole() {
    let mut desk = Desk::new(|termios| termios.c_iflag |= InputFlags::IUTF8.bits());
    desk.keys("aé€\x7f");
    assert_eq!(desk.screen(), "aé€\x08 \x08");
    desk.keys("\x7f\n");
    assert_eq!(desk.read(9).unwrap(), "a\n");
    let mut bytes = Desk::new(|_| {});
    bytes.keys("é\x7f\n");
    assert_eq!(bytes.discipline.input_waiting(), 2, "without IUTF8 a byte goes");
}

#[test]
fn end_of_file_is_a_read_of_nothing_or_ends_a_line_without_newline() {
    let mut desk = Desk::new(|_| {});
    desk.keys("\x04");
    assert_eq!(desk.read(10).unwrap(), "");
    assert_eq!(desk.read(10), None, "an end of file is taken once");
    desk.keys("abc\x04\x04");
    assert_eq!(desk.discipline.input_waiting(), 3);
    assert_eq!(desk.read(3).unwrap(), "abc", "the end of file goes with the last byte");
    assert_eq!(desk.read(3).unwrap(), "");
    assert_eq!(desk.read(3), None);
    assert_eq!(desk.screen(), "abc");
}

#[test]
fn literal_next_takes_the_meaning_from_a_key() {
    let mut desk = Desk::new(|_| {});
    desk.keys("\x16\x03\x16\x04\x16\r\n");
    assert_eq!(desk.screen(), "^\x08^C^\x08^D^\x08^M\r\n");
    assert_eq!(desk.read(10).unwrap(), "\x03\x04\r\n");
    assert!(!desk.effects.contains(Effects::INTERRUPT));
}

#[test]
fn signal_keys_discard_what_was_typed_and_what_waits_to_be_shown() {
    let mut desk = Desk::new(|_| {});
    desk.discipline.write(b"much output");
    desk.keys("one\ntwo\x03");
    assert_eq!(desk.effects & Effects::INTERRUPT, Effects::INTERRUPT);
    assert_eq!((desk.screen().as_str(), desk.read(10)), ("^C", None));
    desk.keys("\x1c\x1a");
    assert!(desk.effects.contains(Effects::QUIT | Effects::SUSPEND));
    let mut keeper = Desk::new(|termios| termios.c_lflag |= LocalFlags::NOFLSH.bits());
    keeper.keys("one\x03\n");
    assert_eq!((keeper.screen().as_str(), keeper.read(10).as_deref()), ("one^C\r\n", Some("one\n")));
}

#[test]
fn output_is_held_and_released_by_keys() {
    let mut desk = Desk::new(|_| {});
    desk.keys("\x13x");
    desk.discipline.write(b"y");
    assert_eq!(desk.screen(), "");
    assert!(!desk.discipline.output_ready());
    desk.keys("\x11");
    assert!(desk.effects.contains(Effects::OUTPUT | Effects::WRITABLE));
    assert_eq!(desk.screen(), "xy");
    let mut any = Desk::new(|termios| termios.c_iflag |= InputFlags::IXANY.bits());
    any.keys("\x13a");
    assert_eq!(any.screen(), "a");
    any.discipline.hold_output();
    any.keys("b");
    assert_eq!(any.screen(), "", "no key undoes TCOOFF");
    assert!(any.discipline.resume_output().contains(Effects::OUTPUT));
    assert_eq!(any.screen(), "b");
}

#[test]
fn a_line_too_long_keeps_its_beginning_and_its_end() {
    let mut desk = Desk::new(|termios| without(termios, LocalFlags::ECHO));
    desk.keys([b'a'; 4095]).keys([b'b'; 1000]);
    assert_eq!(desk.discipline.room(), 1, "keys still work");
    desk.keys("\n");
    assert_eq!(desk.discipline.room(), 0, "a finished line waits to be read");
    assert_eq!(desk.discipline.receive(&[Received::Byte(b'x')], 0).0, 0);
    let line = desk.read(10_000).unwrap();
    assert_eq!(line.len(), 4096);
    assert_eq!(line, format!("{}\n", "a".repeat(4095)));
    assert_eq!(desk.discipline.room(), 4095);
}

#[test]
fn a_full_line_can_still_be_killed() {
    let mut desk = Desk::new(|termios| without(termios, LocalFlags::ECHO));
    desk.keys([b'a'; 5000]).keys("\x15ok\n");
    assert_eq!(desk.read(100).unwrap(), "ok\n");
}

#[test]
fn raw_bytes_pass_untouched() {
    let mut desk = Desk::new(raw);
    let all: Vec<u8> = (0..=255).collect();
    desk.keys(&all);
    assert_eq!(desk.discipline.bytes(256).concat(), all);
    assert_eq!((desk.screen().as_str(), desk.effects), ("", Effects::READABLE));
}

#[test]
fn minimum_and_time_in_all_four_cases() {
    let tenth = 100_000_000;
    let desk = |minimum, time| {
        Desk::new(|termios| {
            raw(termios);
            termios.set_character(ControlCharacter::Min, minimum);
            termios.set_character(ControlCharacter::Time, time);
        })
        .discipline
    };
    let byte = [Received::Byte(b'x')];

    let neither = desk(0, 0);
    assert_eq!(neither.availability(10, 0, 0, true), Availability::Now);

    let mut minimum = desk(3, 0);
    minimum.receive(&[byte[0], byte[0]], 0);
    assert_eq!(minimum.availability(10, 0, u64::MAX, true), Availability::Later(None));
    assert_eq!(minimum.availability(2, 0, 0, true), Availability::Now, "a smaller read is content with less");
    assert_eq!(minimum.availability(10, 0, 0, false), Availability::Now, "O_NONBLOCK takes what is there");
    assert!(!minimum.is_readable_for_poll());
    minimum.receive(&byte, 0);
    assert_eq!(minimum.availability(10, 0, 0, true), Availability::Now);
    assert!(minimum.is_readable_for_poll());

    let mut time = desk(0, 5);
    assert_eq!(time.availability(10, 7, 7, true), Availability::Later(Some(7 + 5 * tenth)));
    assert_eq!(time.availability(10, 7, 7 + 5 * tenth, true), Availability::Now);
    assert_eq!(time.front(10).length, 0);
    time.receive(&byte, 8);
    assert_eq!(time.availability(10, 7, 8, true), Availability::Now);

    let mut both = desk(3, 2);
    assert_eq!(both.availability(10, 0, 99 * tenth, true), Availability::Later(None), "no byte, no timer");
    both.receive(&byte, 50);
    assert_eq!(both.availability(10, 0, 60, true), Availability::Later(Some(50 + 2 * tenth)));
    assert_eq!(
        both.availability(10, 90, 95, true),
        Availability::Later(Some(90 + 2 * tenth)),
        "it runs from the read on"
    );
    assert_eq!(both.availability(10, 90, 90 + 2 * tenth, true), Availability::Now);
}

#[test]
fn changing_modes_keeps_what_was_typed() {
    let mut desk = Desk::new(|_| {});
    desk.keys("one\ntwo");
    let canonical = *desk.discipline.termios();
    let mut bytes = canonical;
    raw(&mut bytes);
    desk.discipline.set_termios(bytes);
    assert_eq!(desk.read(5).unwrap(), "one\nt");
    desk.discipline.set_termios(canonical);
    assert_eq!(desk.read(5).unwrap(), "wo", "what is left is a line without newline");
}

#[test]
fn output_processing_follows_the_flags() {
    let write = |flags: u32, text: &str| {
        let mut desk = Desk::new(|termios| termios.c_oflag = flags);
        assert_eq!(desk.discipline.write(text.as_bytes()), text.len());
        desk.screen()
    };
    let on = |flags: Flag| (Flag::OPOST | flags).bits();
    assert_eq!(write(0, "a\nb\tc"), "a\nb\tc");
    assert_eq!(write(on(Flag::ONLCR), "a\nb"), "a\r\nb");
    assert_eq!(write(on(Flag::OCRNL), "a\rb"), "a\nb");
    assert_eq!(write(on(Flag::ONOCR), "\ra\r\rb"), "a\rb");
    assert_eq!(write(on(Flag::TAB3), "a\tb\t\x08\t"), "a       b       \x08 ");
    assert_eq!(write(on(Flag::OLCUC), "aZ-\n"), "AZ-\n");
    assert_eq!(write(on(Flag::ONLRET | Flag::TAB3), "abc\n\t"), "abc\n        ");
}

#[test]
fn a_full_ring_stops_writers_but_not_echo() {
    let mut desk = Desk::new(|_| {});
    let taken = desk.discipline.write(&[b'\n'; 10_000]);
    assert_eq!(taken, (OUTPUT_SIZE - 256) / 2, "every newline takes two bytes");
    assert!(!desk.discipline.is_writable());
    desk.keys("x");
    assert!(desk.screen().ends_with("\r\nx"));
    assert!(desk.discipline.is_writable());
}

#[test]
fn damaged_bytes_and_breaks() {
    let receive = |input: InputFlags, item| {
        let mut desk = Desk::new(raw);
        let mut termios = *desk.discipline.termios();
        termios.c_iflag = input.bits();
        desk.discipline.set_termios(termios);
        let effects = desk.discipline.receive(&[item], 0).1;
        (desk.discipline.bytes(9).concat(), effects.contains(Effects::INTERRUPT))
    };
    let damaged = Received::Damaged(b'x');
    assert_eq!(receive(InputFlags::empty(), damaged), (b"x".to_vec(), false));
    assert_eq!(receive(InputFlags::INPCK, damaged), (b"\0".to_vec(), false));
    assert_eq!(receive(InputFlags::INPCK | InputFlags::IGNPAR, damaged), (vec![], false));
    assert_eq!(receive(InputFlags::INPCK | InputFlags::PARMRK, damaged), (b"\xff\0x".to_vec(), false));
    assert_eq!(receive(InputFlags::PARMRK, Received::Byte(0xff)), (b"\xff\xff".to_vec(), false));
    assert_eq!(receive(InputFlags::BRKINT, Received::Break), (vec![], true));
    assert_eq!(receive(InputFlags::IGNBRK | InputFlags::BRKINT, Received::Break), (vec![], false));
    assert_eq!(receive(InputFlags::empty(), Received::Break), (b"\0".to_vec(), false));
}

#[test]
fn the_other_side_is_asked_for_quiet() {
    let mut desk = Desk::new(|termios| {
        raw(termios);
        termios.c_iflag = InputFlags::IXOFF.bits();
    });
    desk.keys(vec![b'x'; 4000]);
    assert_eq!(desk.screen(), "\x13");
    desk.read(3000);
    assert_eq!(desk.screen(), "");
    desk.read(900);
    assert_eq!(desk.screen(), "\x11");
}

#[test]
fn reprint_shows_the_line_again() {
    let mut desk = Desk::new(|_| {});
    desk.keys("ab\x01\x12");
    assert_eq!(desk.screen(), "ab^A^R\r\nab^A");
}

#[test]
fn erasing_on_paper_shows_what_goes() {
    let mut desk = Desk::new(|termios| termios.c_lflag |= LocalFlags::ECHOPRT.bits());
    desk.keys("abc\x7f\x7fd\n");
    assert_eq!(desk.screen(), "abc\\cb/d\r\n");
}

/// A small generator of numbers, the same on every run.
pub(crate) struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn random_bytes_and_settings_keep_every_bound() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let mut desk = Desk::new(|_| {});
        for step in 0..200u64 {
            match dice.roll(10) {
                0 => {
                    let mut termios = *desk.discipline.termios();
                    termios.c_iflag = dice.roll(1 << 15) as u32;
                    termios.c_oflag = dice.roll(1 << 13) as u32;
                    termios.c_lflag = dice.roll(1 << 17) as u32;
                    let which = dice.roll(19) as usize;
                    termios.c_cc[which] = dice.roll(256) as u8;
                    desk.discipline.set_termios(termios);
                }
                1 => {
                    let bytes: Vec<u8> = (0..dice.roll(6000)).map(|_| dice.roll(256) as u8).collect();
                    assert!(desk.discipline.write(&bytes) <= bytes.len());
                }
                2 => drop(desk.screen()),
                3 => {
                    let wanted = dice.roll(5000) as usize;
                    let front = desk.discipline.front(wanted);
                    assert!(front.length <= wanted);
                    assert_eq!(desk.discipline.bytes(front.length).concat().len(), front.length);
                    desk.discipline.consume(front, dice.roll(front.length as u64 + 1) as usize);
                }
                4 => drop(desk.discipline.discard_input()),
                5 => {
                    let damage = [Received::Break, Received::Damaged(dice.roll(256) as u8)];
                    desk.discipline.receive(&damage, step);
                }
                _ => {
                    let bytes: Vec<_> = (0..dice.roll(3000)).map(|_| Received::Byte(dice.roll(256) as u8)).collect();
                    let (taken, _) = desk.discipline.receive(&bytes, step);
                    assert!(taken == bytes.len() || desk.discipline.room() == 0);
                }
            }
            assert!(desk.discipline.input_waiting() <= INPUT_SIZE);
            assert!(desk.discipline.output_waiting() <= OUTPUT_SIZE);
        }
    }
}
