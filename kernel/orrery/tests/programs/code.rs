//! Programs of a few system calls, put together here: no compiler, no file of the host.

use abi::raw::general as raw;

/// Where a program lies, and where it keeps what it reads.
const BASE: u64 = 0x40_0000;
pub const BUFFER: u64 = 0x50_0000;
/// How much fits there.
pub const ROOM: u64 = 0x10_0000;

/// Machine code for x86-64 under construction.
#[derive(Default)]
pub struct Code(Vec<u8>);

/// A place to jump to.
#[derive(Clone, Copy)]
pub struct Place(usize);

impl Code {
    pub fn here(&self) -> Place {
        Place(self.0.len())
    }

    fn emit(mut self, bytes: &[u8]) -> Code {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A system call; its result is there for the next step.
    pub fn call<const N: usize>(self, number: u32, arguments: [u64; N]) -> Code {
        self.load(arguments).emit(&[0xb8]).emit(&number.to_le_bytes()).emit(&[0x0f, 0x05])
    }

    /// A system call whose last argument is the result of the one before.
    pub fn call_with_result<const N: usize>(self, number: u32, arguments: [u64; N]) -> Code {
        let move_result: [[u8; 3]; 3] = [[0x48, 0x89, 0xc7], [0x48, 0x89, 0xc6], [0x48, 0x89, 0xc2]];
        let last = move_result[N];
        self.emit(&last).call(number, arguments)
    }

    fn load<const N: usize>(mut self, arguments: [u64; N]) -> Code {
        let registers: [[u8; 2]; 6] =
            [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
        for (register, value) in registers.iter().zip(arguments) {
            self = self.emit(register).emit(&value.to_le_bytes());
        }
        self
    }

    /// Goes back.
    pub fn jump(self, place: Place) -> Code {
        let distance = place.0 as i32 - (self.0.len() as i32 + 5);
        self.emit(&[0xe9]).emit(&distance.to_le_bytes())
    }

    /// Goes back if the last result is above 0.
    pub fn jump_if_positive(self, place: Place) -> Code {
        let distance = place.0 as i32 - (self.0.len() as i32 + 9);
        self.emit(&[0x48, 0x85, 0xc0, 0x0f, 0x8f]).emit(&distance.to_le_bytes())
    }

    /// Ends with the last result as the status, or 256 less the errno.
    pub fn exit(self) -> Code {
        self.call_with_result(raw::__NR_exit_group, [])
    }

    /// Ends with a value from memory as the status.
    pub fn exit_with_byte_at(self, address: u64) -> Code {
        // movzx eax, byte ptr [address], by way of rcx
        self.emit(&[0x48, 0xb9]).emit(&address.to_le_bytes()).emit(&[0x0f, 0xb6, 0x01]).exit()
    }

    /// Where a copy of `bytes` lies, in the program. The program jumps over it.
    pub fn data(self, bytes: &[u8]) -> (Code, u64) {
        let code = self.emit(&[0xe9]).emit(&(bytes.len() as u32).to_le_bytes());
        let address = BASE + HEADERS as u64 + code.0.len() as u64;
        (code.emit(bytes), address)
    }

    /// The program as a file.
    pub fn file(self) -> Vec<u8> {
        let mut file = vec![0; HEADERS];
        let mut put = |offset: usize, bytes: &[u8]| file[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &2_u16.to_le_bytes());
        put(18, &62_u16.to_le_bytes());
        put(20, &1_u32.to_le_bytes());
        put(24, &(BASE + HEADERS as u64).to_le_bytes());
        put(32, &64_u64.to_le_bytes());
        put(52, &64_u16.to_le_bytes());
        put(54, &56_u16.to_le_bytes());
        put(56, &1_u16.to_le_bytes());
        // One segment: everything, and the buffer behind it.
        put(64, &1_u32.to_le_bytes());
        put(68, &7_u32.to_le_bytes());
        put(80, &BASE.to_le_bytes());
        put(96, &(HEADERS as u64 + self.0.len() as u64).to_le_bytes());
        put(104, &(BUFFER - BASE + ROOM).to_le_bytes());
        put(112, &4096_u64.to_le_bytes());
        file.extend(self.0);
        file
    }
}

const HEADERS: usize = 120;
