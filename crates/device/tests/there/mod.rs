//! How every test opens a device that may not be there: it goes without, and says so, unless the device is required.

use device::{Choice, Device, Error, Options};
use std::io::Write;

/// The device, or nothing where it isn't there. With RONDO_REQUIRE_VULKAN or RONDO_REQUIRE_CUDA set, as CI does for what it
/// has installed, such a device can't go missing unseen.
pub fn open(choice: Choice, options: &Options) -> Option<Device> {
    let (device, what) = match Device::open(choice, options) {
        Ok(device) => return Some(device),
        Err(Error::Unavailable { device, what, .. }) => (device, what),
        Err(e) => panic!("{e}"),
    };
    let variable = match choice {
        Choice::Vulkan(_) => "RONDO_REQUIRE_VULKAN",
        _ => "RONDO_REQUIRE_CUDA",
    };
    let required = !matches!(choice, Choice::Cpu) && std::env::var_os(variable).is_some();
    assert!(!required, "{variable} is set, and {device} is not there: {what}");
    // Past the test's own capture, which shows nothing of a test that passes.
    let _ = writeln!(std::io::stderr().lock(), "not tested: {device}: {what}");
    None
}
