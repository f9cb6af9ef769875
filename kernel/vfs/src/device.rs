//! Device numbers and the drivers behind them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};
use sync::RwSpinLock;

use crate::file::File;
use crate::inode::{DeviceNumber, OpenRequest};

/// A character or block device: what opening its node gives.
pub trait Device: Send + Sync {
    /// Makes the open file. `number` is the node's, so one driver can serve many minors.
    ///
    /// # Errors
    /// `ENXIO`, `ENODEV`, `EBUSY`, `EIO`.
    fn open(&self, number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>>;
}

/// Character or block: the numbers of the two are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceClass {
    /// Character devices.
    Character,
    /// Block devices.
    Block,
}

struct Registered {
    name: String,
    device: Arc<dyn Device>,
}

/// All drivers of one kernel. Opening a device node anywhere resolves here.
#[derive(Default)]
pub struct DeviceRegistry {
    devices: RwSpinLock<BTreeMap<(DeviceClass, DeviceNumber), Registered>>,
    /// Drivers of all minors of a major that have none of their own.
    majors: RwSpinLock<BTreeMap<(DeviceClass, u32), Registered>>,
}

impl DeviceRegistry {
    /// Makes nodes with this number lead to `device`.
    ///
    /// # Errors
    /// `EBUSY` when the number is taken.
    pub fn register(
        &self,
        class: DeviceClass,
        number: DeviceNumber,
        name: &str,
        device: Arc<dyn Device>,
    ) -> Result<()> {
        let mut devices = self.devices.write();
        if devices.contains_key(&(class, number)) {
            return Err(Errno::EBUSY);
        }
        devices.insert((class, number), Registered { name: name.into(), device });
        Ok(())
    }

    /// Makes nodes with this major number lead to `device`, whatever their minor is, unless that is registered by itself.
    ///
    /// # Errors
    /// `EBUSY` when the major is taken.
    pub fn register_major(&self, class: DeviceClass, major: u32, name: &str, device: Arc<dyn Device>) -> Result<()> {
        let mut majors = self.majors.write();
        if majors.contains_key(&(class, major)) {
            return Err(Errno::EBUSY);
        }
        majors.insert((class, major), Registered { name: name.into(), device });
        Ok(())
    }

    /// Opens the device of a node.
    ///
    /// # Errors
    /// `ENXIO` when no driver has this number, and the driver's own.
    pub fn open(&self, class: DeviceClass, number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let one = self.devices.read().get(&(class, number)).map(|registered| registered.device.clone());
        let of_major = || self.majors.read().get(&(class, number.major)).map(|registered| registered.device.clone());
        one.or_else(of_major).ok_or(Errno::ENXIO)?.open(number, request)
    }

    /// Every registered device and its name, whole majors as their first number: `/proc/devices`.
    #[expect(clippy::disallowed_methods, reason = "as many as there are drivers")]
    pub fn list(&self) -> Vec<(DeviceClass, DeviceNumber, String)> {
        let (devices, majors) = (self.devices.read(), self.majors.read());
        let ones = devices.iter().map(|(&(class, number), entry)| (class, number, entry));
        let whole = majors.iter().map(|(&(class, major), entry)| (class, DeviceNumber { major, minor: 0 }, entry));
        ones.chain(whole).map(|(class, number, entry)| (class, number, entry.name.clone())).collect()
    }
}
