//! Graphics cards on the PCI bus, whether a driver and its libraries are there or not.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::device::PlatformKind;

/// A graphics card or an accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Card {
    /// The platform that could use it.
    pub(super) platform: PlatformKind,
    /// Its place on the bus.
    pub(super) address: String,
    /// Vendor and device in hexadecimal digits.
    pub(super) id: String,
    /// The kernel's driver that holds it, if any does.
    pub(super) driver: Option<String>,
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vendor = if self.platform == PlatformKind::Amd { "AMD" } else { "NVIDIA" };
        write!(f, "an {vendor} card ({} at {}, ", self.id, self.address)?;
        match &self.driver {
            Some(driver) => write!(f, "driver {driver})"),
            None => write!(f, "without a driver)"),
        }
    }
}

/// The cards of this machine.
pub(super) fn find() -> Vec<Card> {
    find_in(Path::new("/sys/bus/pci/devices"))
}

fn find_in(devices: &Path) -> Vec<Card> {
    let Ok(entries) = std::fs::read_dir(devices) else { return Vec::new() };
    let mut cards: Vec<Card> = entries.filter_map(|entry| card(&entry.ok()?.path())).collect();
    cards.sort_by(|one, other| one.address.cmp(&other.address));
    cards
}

/// The card of a device's folder, if it is one of a vendor that rfgraph knows.
fn card(folder: &Path) -> Option<Card> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(text.trim().trim_start_matches("0x").to_owned())
    };
    // Display controllers and processing accelerators, by the classes of the PCI specification.
    let class = read("class")?;
    if !(class.starts_with("03") || class.starts_with("12")) {
        return None;
    }
    let (vendor, device) = (read("vendor")?, read("device")?);
    let platform = match vendor.as_str() {
        "1002" => PlatformKind::Amd,
        "10de" => PlatformKind::Nvidia,
        _ => return None,
    };
    let driver = std::fs::read_link(folder.join("driver")).ok();
    let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    let address = folder.file_name()?.to_string_lossy().into_owned();
    Some(Card { platform, address, id: format!("{vendor}:{device}"), driver })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_the_display_devices_of_known_vendors() {
        let root = tempfile::tempdir().unwrap();
        let device = |address: &str, class: &str, vendor: &str, driver: Option<&str>| {
            let folder = root.path().join(address);
            std::fs::create_dir(&folder).unwrap();
            for (name, text) in [("class", class), ("vendor", vendor), ("device", "0x744c")] {
                std::fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
            if let Some(driver) = driver {
                std::os::unix::fs::symlink(format!("../drivers/{driver}"), folder.join("driver")).unwrap();
            }
        };
        device("0000:05:00.0", "0x120000", "0x1002", None);
        device("0000:03:00.0", "0x030000", "0x1002", Some("amdgpu"));
        device("0000:04:00.0", "0x030200", "0x10de", Some("vfio-pci"));
        device("0000:00:02.0", "0x030000", "0x8086", Some("i915"));
        device("0000:03:00.1", "0x040300", "0x1002", Some("snd_hda_intel"));
        let cards: Vec<String> = find_in(root.path()).iter().map(ToString::to_string).collect();
        assert_eq!(
            cards,
            [
                "an AMD card (1002:744c at 0000:03:00.0, driver amdgpu)",
                "an NVIDIA card (10de:744c at 0000:04:00.0, driver vfio-pci)",
                "an AMD card (1002:744c at 0000:05:00.0, without a driver)",
            ]
        );
        assert_eq!(find_in(&root.path().join("none")), []);
    }
}
