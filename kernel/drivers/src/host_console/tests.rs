use super::*;
use std::collections::VecDeque;
use std::sync::Mutex;

/// A terminal with a person of our own at it.
#[derive(Default)]
struct Screen {
    keys: VecDeque<u8>,
    /// How many keys the driver wanted when there were none.
    wanted: usize,
    shown: Vec<u8>,
    /// What it takes before it refuses.
    room: usize,
    window: Option<WindowSize>,
    gone: bool,
}

#[derive(Clone, Default)]
struct Seat(Arc<Mutex<Screen>>);

impl Seat {
    fn with<R>(&self, act: impl FnOnce(&mut Screen) -> R) -> R {
        act(&mut self.0.lock().unwrap())
    }
}

impl HostTerminal for Seat {
    fn read(&self, wanted: usize, buffer: &mut [u8]) -> Result<usize, StreamStop> {
        self.with(|screen| {
            if screen.gone {
                return Ok(0);
            }
            if screen.keys.is_empty() {
                screen.wanted = wanted;
                return Err(StreamStop::WouldBlock);
            }
            let count = screen.keys.len().min(buffer.len());
            buffer.iter_mut().zip(screen.keys.drain(..count)).for_each(|(place, key)| *place = key);
            Ok(count)
        })
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, StreamStop> {
        self.with(|screen| {
            if screen.gone {
                return Err(StreamStop::Closed);
            }
            if screen.room == 0 {
                return Err(StreamStop::WouldBlock);
            }
            let count = bytes.len().min(screen.room);
            screen.room -= count;
            screen.shown.extend_from_slice(&bytes[..count]);
            Ok(count)
        })
    }

    fn write_last(&self, bytes: &[u8]) {
        self.with(|screen| screen.shown.extend_from_slice(bytes));
    }

    fn window_size(&self) -> Option<WindowSize> {
        self.with(|screen| screen.window)
    }
}

#[derive(Default)]
struct Typist {
    room: Mutex<usize>,
    typed: Mutex<Vec<u8>>,
    output: Mutex<VecDeque<u8>>,
    fetched: Mutex<usize>,
    sizes: Mutex<Vec<(u16, u16)>>,
    hang_ups: Mutex<usize>,
}

impl SerialUser for Typist {
    fn room(&self) -> usize {
        *self.room.lock().unwrap()
    }

    fn receive(&self, received: &[Received]) {
        *self.room.lock().unwrap() -= received.len();
        self.typed.lock().unwrap().extend(received.iter().map(|item| match item {
            Received::Byte(byte) => *byte,
            other => panic!("{other:?}"),
        }));
    }

    fn fetch(&self, buffer: &mut [u8]) -> usize {
        let mut output = self.output.lock().unwrap();
        let count = output.len().min(buffer.len());
        buffer.iter_mut().zip(output.drain(..count)).for_each(|(place, byte)| *place = byte);
        count
    }

    fn fetched(&self) {
        *self.fetched.lock().unwrap() += 1;
    }
}

impl ConsoleUser for Typist {
    fn resize(&self, size: WindowSize) {
        self.sizes.lock().unwrap().push((size.rows, size.columns));
    }

    fn hang_up(&self) {
        *self.hang_ups.lock().unwrap() += 1;
    }
}

fn bench(room: usize) -> (Seat, Arc<Typist>, Arc<HostConsole<Seat>>) {
    let (seat, typist) = (Seat::default(), Arc::new(Typist::default()));
    *typist.room.lock().unwrap() = room;
    let console = HostConsole::new(seat.clone());
    let user: Weak<Typist> = Arc::downgrade(&typist);
    console.attach(user);
    (seat, typist, console)
}

#[test]
fn keys_are_asked_for_as_long_as_there_is_room() {
    let (seat, typist, console) = bench(100);
    assert_eq!(seat.with(|screen| screen.wanted), 100);
    seat.with(|screen| screen.keys.extend([b'k'; 150]));
    console.interrupt();
    assert_eq!(typist.typed.lock().unwrap().len(), 100);
    assert_eq!(seat.with(|screen| screen.keys.len()), 50, "the rest stays with the host");
    console.interrupt();
    assert_eq!(typist.typed.lock().unwrap().len(), 100);
    *typist.room.lock().unwrap() = 1000;
    console.resume();
    assert_eq!(typist.typed.lock().unwrap().len(), 150);
    assert_eq!(seat.with(|screen| screen.wanted), 950);
}

#[test]
fn what_the_terminal_refuses_is_sent_later_and_nothing_is_lost() {
    let (seat, typist, console) = bench(1);
    let text: Vec<u8> = (0..5000).map(|index| (index % 251) as u8).collect();
    typist.output.lock().unwrap().extend(&text);
    for room in [0, 700, 1, 0, 2000] {
        seat.with(|screen| screen.room = room);
        console.interrupt();
        let shown = seat.with(|screen| screen.shown.clone());
        assert!(text.starts_with(&shown));
        assert_eq!(seat.with(|screen| screen.room), 0, "it takes what it can");
    }
    seat.with(|screen| screen.room = 10_000);
    console.start_quietly();
    assert!(seat.with(|screen| screen.shown == text));
    assert_eq!(*typist.fetched.lock().unwrap(), 6, "each interrupt, and attaching, but not the quiet one");
}

#[test]
fn a_window_is_told_at_first_and_when_it_changes() {
    let (seat, typist, console) = bench(1);
    assert!(typist.sizes.lock().unwrap().is_empty(), "no window");
    for (rows, columns) in [(24, 80), (24, 80), (50, 80), (50, 80), (24, 80)] {
        seat.with(|screen| screen.window = Some(WindowSize { rows, columns, ..WindowSize::default() }));
        console.interrupt();
    }
    assert_eq!(*typist.sizes.lock().unwrap(), [(24, 80), (50, 80), (24, 80)]);
}

#[test]
fn a_terminal_that_goes_away_hangs_up_once_and_swallows_output() {
    let (seat, typist, console) = bench(10);
    typist.output.lock().unwrap().extend([b'x'; 2000]);
    seat.with(|screen| screen.gone = true);
    console.interrupt();
    console.interrupt();
    assert_eq!(*typist.hang_ups.lock().unwrap(), 1);
    assert!(typist.output.lock().unwrap().is_empty());
    assert!(seat.with(|screen| screen.shown.is_empty()));
}

#[test]
fn the_last_output_is_sent_though_there_is_no_room() {
    let (seat, typist, console) = bench(1);
    typist.output.lock().unwrap().extend([b'y'; 3000]);
    seat.with(|screen| screen.room = 100);
    console.start();
    console.flush();
    assert_eq!(seat.with(|screen| screen.shown.len()), 3000);
}
