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

    /// Opens the device of a node.
    ///
    /// # Errors
    /// `ENXIO` when no driver has this number, and the driver's own.
    pub fn open(&self, class: DeviceClass, number: DeviceNumber, request: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        let device = self.devices.read().get(&(class, number)).map(|registered| registered.device.clone());
        device.ok_or(Errno::ENXIO)?.open(number, request)
    }

    /// Every registered device and its name: `/proc/devices`.
    pub fn list(&self) -> Vec<(DeviceClass, DeviceNumber, String)> {
        self.devices.read().iter().map(|(&(class, number), entry)| (class, number, entry.name.clone())).collect()
    }
}
