//! What needs more than the public face: regions of several slabs, as where a driver's allocations are small.

use super::Vulkan;
use super::memory::Slabs;
use crate::{Buffer, Choice, Error, Machine, Options, there};
use graph::op::Cost;
use graph::plan::{Access, BufferKind, BufferPlan, PlannedNode};
use graph::{Launch, Operand, Place, Plan, PlannedLaunch};

const SLAB: u64 = 64 << 10;

/// A device whose allocations are at most `SLAB` bytes; `None`, with the reason printed, where there is no device.
fn open() -> Option<Vulkan> {
    there::open(Choice::Vulkan(None), &Options::default())?;
    let mut vulkan = Vulkan::open(None, &Options::default()).expect("it was there just now");
    vulkan.spec.largest_allocation = SLAB;
    Some(vulkan)
}

fn place(offset: u64, bytes: u64) -> Place {
    Place { buffer: 0, offset, bytes }
}

/// Copies `from` to `to` in a region of four slabs.
fn plan(vulkan: &Vulkan, from: Place, to: Place) -> Plan {
    let node = PlannedNode {
        op: "copy".into(),
        params: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        variant: "default",
        cost: Cost::default(),
        location: String::new(),
    };
    let launch = Launch::Copy { from: Operand::Input(0), to: Operand::Output(0) };
    let places = vec![(from, Access::Read), (to, Access::Write)];
    Plan {
        spec: vulkan.spec.clone(),
        buffers: vec![BufferPlan { name: "region".into(), kind: BufferKind::Region, bytes: 4 * SLAB }],
        launches: vec![PlannedLaunch { launch, places, node: 0, after: Vec::new(), level: 0 }],
        nodes: vec![node],
        inputs: Vec::new(),
        outputs: Vec::new(),
        entries: Vec::new(),
        lives: Vec::new(),
    }
}

#[test]
fn regions_span_slabs() {
    let Some(vulkan) = open() else { return };
    let before = vulkan.counters().device_allocations;
    let region = vulkan.allocate("region", 4 * SLAB).expect("memory");
    assert_eq!(vulkan.counters().device_allocations - before, 4);
    let data: Vec<u8> = (0..4 * SLAB).map(|i| (i / 251) as u8).collect();
    region.write(0, &data).expect("written");
    let (from, to) = (place(3 * SLAB + 256, 1024), place(SLAB + 512, 1024));
    let mut replay = vulkan.record(&plan(&vulkan, from, to), &[("region", &region)]).expect("recorded");
    replay.replay().expect("submitted");
    let mut expected = data;
    expected.copy_within(3 * SLAB as usize + 256..3 * SLAB as usize + 1280, SLAB as usize + 512);
    let mut out = vec![0; 4 * SLAB as usize];
    region.read(0, &mut out).expect("read");
    assert!(out == expected, "the copy between slabs, and nothing else");
    let across = region.read(SLAB - 8, &mut out[..16]);
    assert!(across.is_ok() && out[..16] == expected[SLAB as usize - 8..][..16]);
}

#[test]
fn no_tensor_straddles_two_slabs() {
    let Some(vulkan) = open() else { return };
    let region = vulkan.allocate("region", 4 * SLAB).expect("memory");
    let slabs = region.as_any().downcast_ref::<Slabs>().expect("its own kind");
    assert!(slabs.address(&place(SLAB - 4, 4)).is_some());
    assert!(slabs.address(&place(SLAB - 4, 8)).is_none());
    assert!(slabs.address(&place(4 * SLAB, 4)).is_none());
    let straddling = plan(&vulkan, place(SLAB - 4, 8), place(0, 8));
    let Err(e) = vulkan.record(&straddling, &[("region", &region)]) else { panic!("it was recorded") };
    assert!(e.to_string().contains("aren't in one allocation"), "{e}");
}

#[test]
fn buffers_of_other_devices_are_refused() {
    let (Some(vulkan), Some(other)) = (open(), open()) else { return };
    let region: Buffer = other.allocate("region", 4 * SLAB).expect("memory");
    match vulkan.record(&plan(&vulkan, place(0, 16), place(16, 16)), &[("region", &region)]) {
        Err(Error::Mismatch { what, .. }) => assert_eq!(what, "buffer `region` was made by another device"),
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("it was recorded"),
    }
}

#[test]
fn too_much_memory_is_refused() {
    let Some(vulkan) = open() else { return };
    let most = vulkan.core.physical.spec.largest_allocation;
    match super::memory::Slab::new(&vulkan.core, "a test", most * 64, super::memory::Kind::Device) {
        Err(Error::Memory { need, .. }) => assert!(need >= most * 64),
        Err(Error::Driver { .. }) => {}
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("64 times the largest allocation was allocated"),
    }
}
