//! Which Vulkan device is taken, what it lacks, and what plans may know of it.
#![expect(unsafe_code, reason = "Vulkan is a C interface")]

use super::instance::{Instance, failed, show_version, unavailable};
use crate::Error;
use ash::{ext, vk};
use graph::{DeviceKind, Limits, Spec};
use std::ffi::CStr;

/// A physical device, its queue family and what of it is used.
pub struct Physical {
    /// The device.
    pub raw: vk::PhysicalDevice,
    /// The family of the queue that everything runs on.
    pub family: u32,
    /// The memory types.
    pub memory: vk::PhysicalDeviceMemoryProperties,
    /// Extensions to switch on.
    pub extensions: Vec<&'static CStr>,
    /// Whether the driver says how much of its memory is free.
    pub budget: bool,
    /// Whether kernels are compiled for one subgroup size, of the several that the device has.
    pub fixed_subgroup: bool,
    /// Whether kernels may ask for whole subgroups.
    pub full_subgroups: bool,
    /// Whether 64-bit integers may be used.
    pub int64: bool,
    /// Whether shaders may load and store 16-bit elements.
    pub storage16: bool,
    /// Seconds of one tick of the clock; `None` without timestamps.
    pub seconds_per_tick: Option<f64>,
    /// Bits of a timestamp that count.
    pub tick_mask: u64,
    /// Most groups in x, y and z.
    pub max_groups: [u32; 3],
    /// What plans may know.
    pub spec: Spec,
}

/// The device `index`, or the first GPU, or (with `software`) the first device of any kind.
pub fn choose(instance: &Instance, index: Option<usize>, software: bool) -> Result<Physical, Error> {
    // SAFETY: the instance is alive.
    let devices = unsafe { instance.raw.enumerate_physical_devices() }.map_err(failed("vkEnumeratePhysicalDevices"))?;
    let advice = "see `vulkaninfo --summary`; install the GPU's Vulkan driver, or use --device cpu";
    if let Some(index) = index {
        let Some(device) = devices.get(index) else { return Err(no_such(instance, index, &devices, advice)) };
        return describe(instance, *device);
    }
    let kinds = [
        vk::PhysicalDeviceType::DISCRETE_GPU,
        vk::PhysicalDeviceType::INTEGRATED_GPU,
        vk::PhysicalDeviceType::VIRTUAL_GPU,
        vk::PhysicalDeviceType::OTHER,
        vk::PhysicalDeviceType::CPU,
    ];
    // SAFETY: the devices were enumerated from this instance.
    let kind = |device| unsafe { instance.raw.get_physical_device_properties(device) }.device_type;
    let mut first_error = None;
    for wanted in &kinds[..if software { 5 } else { 3 }] {
        for device in devices.iter().copied().filter(|d| kind(*d) == *wanted) {
            match describe(instance, device) {
                Ok(physical) => return Ok(physical),
                Err(e) => first_error = first_error.or(Some(e)),
            }
        }
    }
    let what = if devices.is_empty() { "no Vulkan device is there" } else { "no Vulkan GPU is there" };
    Err(first_error.unwrap_or_else(|| unavailable(what, advice)))
}

/// An index that no device has, with those that there are.
fn no_such(instance: &Instance, index: usize, devices: &[vk::PhysicalDevice], advice: &str) -> Error {
    let name = |(i, device): (usize, &vk::PhysicalDevice)| {
        // SAFETY: the device is one of this instance.
        let properties = unsafe { instance.raw.get_physical_device_properties(*device) };
        format!("vulkan:{i} ({})", properties.device_name_as_c_str().unwrap_or(c"?").to_string_lossy())
    };
    let all: Vec<_> = devices.iter().enumerate().map(name).collect();
    let all = if all.is_empty() { "none".into() } else { all.join(", ") };
    let what = format!("there is no device {index}; there is {all}");
    Error::Unavailable { device: format!("vulkan:{index}"), what, advice: advice.into() }
}

/// Everything that is asked of a device, in one query.
#[derive(Default)]
struct Asked {
    properties: vk::PhysicalDeviceProperties,
    driver: vk::PhysicalDeviceDriverProperties<'static>,
    subgroup: vk::PhysicalDeviceSubgroupProperties<'static>,
    sizes: vk::PhysicalDeviceSubgroupSizeControlProperties<'static>,
    maintenance3: vk::PhysicalDeviceMaintenance3Properties<'static>,
    maintenance4: vk::PhysicalDeviceMaintenance4Properties<'static>,
    builtins: vk::PhysicalDeviceShaderSMBuiltinsPropertiesNV<'static>,
    amd: vk::PhysicalDeviceShaderCorePropertiesAMD<'static>,
    features: vk::PhysicalDeviceFeatures,
    address: vk::PhysicalDeviceBufferDeviceAddressFeatures<'static>,
    timeline: vk::PhysicalDeviceTimelineSemaphoreFeatures<'static>,
    storage16: vk::PhysicalDevice16BitStorageFeatures<'static>,
    control: vk::PhysicalDeviceSubgroupSizeControlFeatures<'static>,
    extensions: Vec<&'static CStr>,
}

/// The optional extensions that are made use of.
const OPTIONAL: [&CStr; 5] = [
    ext::subgroup_size_control::NAME,
    ash::khr::maintenance4::NAME,
    ash::nv::shader_sm_builtins::NAME,
    AMD,
    ext::memory_budget::NAME,
];
const AMD: &CStr = ash::amd::shader_core_properties::NAME;

fn ask(instance: &Instance, device: vk::PhysicalDevice) -> Result<Asked, Error> {
    // SAFETY: the device was enumerated from this instance.
    let properties = unsafe { instance.raw.get_physical_device_properties(device) };
    let mut asked = Asked { properties, ..Asked::default() };
    // SAFETY: as above.
    let there = unsafe { instance.raw.enumerate_device_extension_properties(device) }
        .map_err(failed("vkEnumerateDeviceExtensionProperties"))?;
    asked.extensions =
        OPTIONAL.into_iter().filter(|n| there.iter().any(|e| e.extension_name_as_c_str() == Ok(n))).collect();
    let has = |name: &CStr| asked.extensions.contains(&name);
    let recent = asked.properties.api_version >= vk::API_VERSION_1_3;
    let control = recent || has(ext::subgroup_size_control::NAME);
    let mut properties = vk::PhysicalDeviceProperties2::default()
        .push_next(&mut asked.driver)
        .push_next(&mut asked.subgroup)
        .push_next(&mut asked.maintenance3);
    let mut features = vk::PhysicalDeviceFeatures2::default()
        .push_next(&mut asked.address)
        .push_next(&mut asked.timeline)
        .push_next(&mut asked.storage16);
    if control {
        properties = properties.push_next(&mut asked.sizes);
        features = features.push_next(&mut asked.control);
    }
    if recent || has(ash::khr::maintenance4::NAME) {
        properties = properties.push_next(&mut asked.maintenance4);
    }
    if has(ash::nv::shader_sm_builtins::NAME) {
        properties = properties.push_next(&mut asked.builtins);
    }
    if has(AMD) {
        properties = properties.push_next(&mut asked.amd);
    }
    // SAFETY: the chains hold only structures of extensions and versions that the device has.
    let plain = unsafe {
        instance.raw.get_physical_device_properties2(device, &mut properties);
        instance.raw.get_physical_device_features2(device, &mut features);
        features.features
    };
    asked.features = plain;
    Ok(asked)
}

/// Names of what the device lacks.
fn lacks(asked: &Asked) -> Vec<String> {
    let mut missing = Vec::new();
    let mut need = |there: bool, name: &str| {
        if !there {
            missing.push(name.to_owned());
        }
    };
    let version = asked.properties.api_version;
    need(version >= vk::API_VERSION_1_2, &format!("Vulkan 1.2 (it has {})", show_version(version)));
    need(asked.address.buffer_device_address == vk::TRUE, "bufferDeviceAddress");
    need(asked.timeline.timeline_semaphore == vk::TRUE, "timelineSemaphore");
    let subgroup = &asked.subgroup;
    need(subgroup.supported_stages.contains(vk::ShaderStageFlags::COMPUTE), "subgroups in compute shaders");
    for (flag, name) in [
        (vk::SubgroupFeatureFlags::BASIC, "basic subgroup operations"),
        (vk::SubgroupFeatureFlags::SHUFFLE, "subgroup shuffle"),
    ] {
        need(subgroup.supported_operations.contains(flag), name);
    }
    let size = subgroup.subgroup_size;
    need((8..=64).contains(&size), &format!("a subgroup size from 8 to 64 (it has {size})"));
    let limits = &asked.properties.limits;
    need(limits.max_push_constants_size >= 128, "128 bytes of push constants");
    need(limits.max_compute_work_group_invocations >= 256, "groups of 256 threads");
    missing
}

fn describe(instance: &Instance, raw: vk::PhysicalDevice) -> Result<Physical, Error> {
    let asked = ask(instance, raw)?;
    let name = asked.properties.device_name_as_c_str().unwrap_or(c"?").to_string_lossy().into_owned();
    let missing = lacks(&asked);
    if !missing.is_empty() {
        return Err(unavailable(
            format!("{name} lacks {}", missing.join(", ")),
            "update its driver, or use another device",
        ));
    }
    // SAFETY: the device was enumerated from this instance.
    let (families, memory) = unsafe {
        let families = instance.raw.get_physical_device_queue_family_properties(raw);
        (families, instance.raw.get_physical_device_memory_properties(raw))
    };
    let compute = |f: &vk::QueueFamilyProperties| f.queue_flags.contains(vk::QueueFlags::COMPUTE);
    let alone = |f: &vk::QueueFamilyProperties| !f.queue_flags.contains(vk::QueueFlags::GRAPHICS);
    let family = families.iter().position(|f| compute(f) && alone(f)).or(families.iter().position(compute));
    let family =
        family.ok_or_else(|| unavailable(format!("{name} has no queue that computes"), "use another device"))?;
    let tick_bits = families[family].timestamp_valid_bits;
    let period = f64::from(asked.properties.limits.timestamp_period) * 1e-9;
    let control = asked.control.subgroup_size_control == vk::TRUE;
    let in_compute = asked.sizes.required_subgroup_size_stages.contains(vk::ShaderStageFlags::COMPUTE);
    let several = asked.sizes.min_subgroup_size != asked.sizes.max_subgroup_size;
    let older = asked.properties.api_version < vk::API_VERSION_1_3;
    let needed = |name: &&CStr| older && *name == ext::subgroup_size_control::NAME;
    Ok(Physical {
        raw,
        family: family as u32,
        extensions: asked.extensions.iter().copied().filter(needed).collect(),
        budget: asked.extensions.contains(&ext::memory_budget::NAME),
        fixed_subgroup: control && in_compute && several,
        full_subgroups: control && asked.control.compute_full_subgroups == vk::TRUE,
        int64: asked.features.shader_int64 == vk::TRUE,
        storage16: asked.storage16.storage_buffer16_bit_access == vk::TRUE,
        seconds_per_tick: (tick_bits > 0).then_some(period),
        tick_mask: if tick_bits >= 64 { u64::MAX } else { (1 << tick_bits) - 1 },
        max_groups: asked.properties.limits.max_compute_work_group_count,
        spec: spec(name, &asked, &memory),
        memory,
    })
}

fn spec(name: String, asked: &Asked, memory: &vk::PhysicalDeviceMemoryProperties) -> Spec {
    let limits = &asked.properties.limits;
    let driver = asked.driver.driver_name_as_c_str().unwrap_or(c"?").to_string_lossy();
    let version = asked.driver.driver_info_as_c_str().unwrap_or(c"?").to_string_lossy();
    let local = |h: &&vk::MemoryHeap| h.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL);
    let heaps = memory.memory_heaps_as_slice();
    let memory_bytes = heaps.iter().filter(local).map(|h| h.size).max().unwrap_or(0);
    let buffer = if asked.maintenance4.max_buffer_size == 0 { u64::MAX } else { asked.maintenance4.max_buffer_size };
    let largest = asked.maintenance3.max_memory_allocation_size.min(buffer).min(memory_bytes);
    let software = asked.properties.device_type == vk::PhysicalDeviceType::CPU;
    let mut features = Vec::new();
    if asked.features.shader_int64 == vk::TRUE {
        features.push("int64".to_owned());
    }
    if asked.storage16.storage_buffer16_bit_access == vk::TRUE {
        features.push("storage16".to_owned());
    }
    if software {
        features.push("software".into());
    }
    let units = units(asked, software);
    Spec {
        kind: DeviceKind::Vulkan,
        name,
        architecture: format!("{driver} {version}").trim().to_owned(),
        units,
        subgroup_size: asked.subgroup.subgroup_size,
        max_threads: limits.max_compute_work_group_invocations.min(limits.max_compute_work_group_size[0]),
        shared_bytes: limits.max_compute_shared_memory_size,
        memory_bytes,
        largest_allocation: largest / 4096 * 4096,
        argument_bytes: limits.max_push_constants_size,
        features,
        limits: estimate(units, software),
    }
}

/// What the driver says is free of the largest heap that is the device's own; `None` where it doesn't say.
pub fn free_bytes(instance: &Instance, physical: &Physical) -> Option<u64> {
    if !physical.budget {
        return None;
    }
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut asked = vk::PhysicalDeviceMemoryProperties2::default().push_next(&mut budget);
    // SAFETY: the device is of this instance, and has the extension of the structure in the chain.
    unsafe { instance.raw.get_physical_device_memory_properties2(physical.raw, &mut asked) };
    let heaps = physical.memory.memory_heaps_as_slice().iter().enumerate();
    let local = heaps.filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL));
    let (largest, _) = local.max_by_key(|(_, heap)| heap.size)?;
    Some(budget.heap_budget[largest].saturating_sub(budget.heap_usage[largest]))
}

/// Cores or multiprocessors; a guess where the driver doesn't tell.
fn units(asked: &Asked, software: bool) -> u32 {
    let amd = &asked.amd;
    let amd_units = amd.shader_engine_count * amd.shader_arrays_per_engine_count * amd.compute_units_per_shader_array;
    match (asked.builtins.shader_sm_count, amd_units) {
        (0, 0) if software => std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        (0, 0) => 16,
        (0, n) | (n, _) => n,
    }
}

/// What such a machine does at best, before it is measured.
fn estimate(units: u32, software: bool) -> Limits {
    let units = f64::from(units);
    if software {
        Limits { bytes_per_second: 1e10, f32_flops: 2e10 * units, launch_seconds: 2e-5 }
    } else {
        Limits { bytes_per_second: 1.5e10 * units, f32_flops: 3e11 * units, launch_seconds: 3e-6 }
    }
}
