//! The Vulkan device against plans made by hand: memory, slots, order, tickets, counts, silence of the layers.

#[path = "there/mod.rs"]
mod there;

use device::count::{CountingAllocator, host_allocations_of_thread};
use device::vulkan::Vulkan;
use device::{Buffer, Choice, Device, Error, Machine, Options, SLOTS};
use graph::op::{Cost, TensorType};
use graph::plan::{Access, Binding, BufferKind, BufferPlan, Place, Plan, PlannedLaunch, PlannedNode};
use graph::{Kernel, KernelSource, Launch, Operand, Shader};
use std::sync::{Mutex, MutexGuard};
use tensor::DType;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Host allocations are counted for the whole process, so the tests run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

static FILL: Shader =
    Shader { name: "test_fill", source: "fill.comp", defines: &[], spirv: include_bytes!("../shaders/fill.spv") };

/// A device with the validation layers on if they are there; `None`, with the reason printed, without a device.
fn open() -> Option<(Device, bool, MutexGuard<'static, ()>)> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let options = Options { validation: true, ..Options::default() };
    match Device::open(Choice::Vulkan(None), &options) {
        Ok(device) => Some((device, true, guard)),
        Err(_) => Some((there::open(Choice::Vulkan(None), &Options::default())?, false, guard)),
    }
}

fn place(buffer: usize, offset: u64, bytes: u64) -> Place {
    Place { buffer, offset, bytes }
}

/// A launch of level `level` that reads all places but the last one.
fn launch(launch: Launch, level: usize, places: &[Place]) -> PlannedLaunch {
    let access = |i: usize| if i + 1 == places.len() { Access::Write } else { Access::Read };
    let places = places.iter().enumerate().map(|(i, p)| (*p, access(i))).collect();
    PlannedLaunch { launch, places, node: 0, after: Vec::new(), level }
}

fn copy() -> Launch {
    Launch::Copy { from: Operand::Input(0), to: Operand::Output(0) }
}

fn binding(name: &str, shape: usize, place: Place) -> Binding {
    Binding { name: name.into(), ty: TensorType::new(DType::U32, [shape]), place }
}

const WORDS: u64 = 40;

/// inputs x [40] -> arena -> outputs y [40]; the region's history [4] moves up by one word and takes x's first word;
/// outputs z [4] is the history before that, and c [8] is filled by a kernel and a fill.
fn plan(device: &Device) -> Plan {
    let buffer = |name: &str, kind, bytes| BufferPlan { name: name.into(), kind, bytes };
    let fill = |word| {
        Launch::Kernel(Kernel {
            source: KernelSource::Vulkan(&FILL),
            entry: "main",
            constants: Vec::new(),
            groups: [1, 1, 1],
            threads: 64,
            shared_bytes: 0,
            words: vec![8, word],
            operands: vec![Operand::Output(0)],
        })
    };
    let x = place(1, 0, WORDS * 4);
    let y = place(2, 0, WORDS * 4);
    let (z, c) = (place(2, 256, 16), place(2, 512, 32));
    let arena = place(0, 512, WORDS * 4);
    let node = PlannedNode {
        op: "test".into(),
        params: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        variant: "default",
        cost: Cost::default(),
        location: String::new(),
    };
    Plan {
        spec: device.spec().clone(),
        buffers: vec![
            buffer("arena", BufferKind::Arena, 1024),
            buffer("inputs", BufferKind::Inputs, WORDS * 4 + 8),
            buffer("outputs", BufferKind::Outputs, 544),
            buffer("history", BufferKind::Region, 16),
        ],
        launches: vec![
            launch(copy(), 0, &[x, arena]),
            launch(copy(), 0, &[place(3, 0, 16), z]),
            launch(fill(7), 0, &[c]),
            launch(copy(), 1, &[arena, y]),
            launch(copy(), 1, &[place(3, 8, 4), place(3, 12, 4)]),
            launch(copy(), 2, &[place(3, 4, 4), place(3, 8, 4)]),
            launch(copy(), 3, &[place(3, 0, 4), place(3, 4, 4)]),
            launch(copy(), 4, &[place(0, 512, 4), place(3, 0, 4)]),
            launch(Launch::Fill { to: Operand::Output(0), word: 9 }, 4, &[place(2, 528, 16)]),
        ],
        nodes: vec![node],
        inputs: vec![binding("x", WORDS as usize, x), binding("sticky", 1, place(1, WORDS * 4, 4))],
        outputs: vec![binding("y", WORDS as usize, y), binding("z", 4, z), binding("c", 8, c)],
        entries: Vec::new(),
        lives: Vec::new(),
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn input(step: u32) -> Vec<u8> {
    (0..WORDS as u32).flat_map(|i| (step * 1000 + i).to_le_bytes()).collect()
}

/// More replays than the rings have slots.
const STEPS: usize = SLOTS + 100;

#[test]
fn replays_are_in_order_and_allocate_nothing() {
    let Some((device, validation, _guard)) = open() else { return };
    let plan = plan(&device);
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan, &mut lent).expect("memory");
    let borrowed: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut recording = device.record(plan, &borrowed).expect("a recording");
    let steps: Vec<Vec<u8>> = (0..STEPS as u32).map(input).collect();
    let mut out = vec![0; 160];
    let mut tickets = Vec::with_capacity(STEPS);
    let (before, allocations) = (device.counters(), host_allocations_of_thread());
    for step in &steps {
        recording.write(0, step).expect("written");
        tickets.push(recording.replay().expect("submitted"));
    }
    recording.read(0, tickets[STEPS - 1], &mut out).expect("read");
    assert_eq!(host_allocations_of_thread() - allocations, 0, "host allocations");
    let after = device.counters();
    assert_eq!(after.submissions - before.submissions, STEPS as u64, "submissions");
    assert_eq!(after.device_allocations, before.device_allocations, "device allocations");
    let mut history = vec![0; 16];
    let mut filled = vec![0; 32];
    for t in STEPS - SLOTS..STEPS {
        recording.read(0, tickets[t], &mut out).expect("read");
        assert_eq!(out, steps[t], "y of replay {t}");
        recording.read(1, tickets[t], &mut history).expect("read");
        let expected: Vec<u32> = (1..=4).map(|back| (t as u32 - back) * 1000).collect();
        assert_eq!(words(&history), expected, "history at replay {t}");
        recording.read(2, tickets[t], &mut filled).expect("read");
        assert_eq!(words(&filled), [7, 7, 7, 7, 9, 9, 9, 9]);
    }
    assert_eq!(device.counters().host_waits, after.host_waits, "what has ended needs no wait");
    let old = recording.read(0, tickets[STEPS - 1 - SLOTS], &mut out);
    assert!(matches!(old, Err(Error::Mismatch { .. })), "{old:?}");
    // What isn't written keeps its bytes, and a timed replay is a replay.
    let times = recording.time_launches().expect("timestamps");
    assert_eq!(times.len(), 9);
    assert!(times.iter().all(|t| (0.0..1.0).contains(t)), "{times:?}");
    let ticket = recording.replay().expect("submitted");
    recording.read(0, ticket, &mut out).expect("read");
    assert_eq!(out, steps[STEPS - 1]);
    let last = (STEPS as u32 - 1) * 1000;
    recording.read(1, ticket, &mut history).expect("read");
    assert_eq!(words(&history), [last, last, last - 1000, last - 2000]);
    let messages = device.counters().validation_messages;
    assert!(messages == 0, "{messages} messages of the validation layers");
    println!("{device}: validation {validation}, {:?}", device.counters());
}

#[test]
fn recordings_share_regions_in_order() {
    let Some((device, _, _guard)) = open() else { return };
    let mut lent: Vec<(String, Buffer)> = Vec::new();
    device.allocate_for(&plan(&device), &mut lent).expect("memory");
    let borrowed: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut both = [0, 1].map(|_| device.record(plan(&device), &borrowed).expect("a recording"));
    let mut history = vec![0; 16];
    for step in 1..50 {
        let recording = &mut both[step as usize % 2];
        recording.write(0, &input(step)).expect("written");
        recording.replay().expect("submitted");
    }
    // The region's owner reads it after all replays so far.
    lent.iter().find(|(n, _)| n == "history").expect("lent").1.read(0, &mut history).expect("read");
    assert_eq!(words(&history), [49_000, 48_000, 47_000, 46_000]);
    assert_eq!(device.counters().validation_messages, 0);
}

#[test]
fn memory_is_zero_and_takes_bytes_anywhere() {
    let Some((device, _, _guard)) = open() else { return };
    let bytes = (20 << 20) + 12;
    let buffer = device.allocate("a test", bytes).expect("memory");
    let mut out = vec![1; bytes as usize];
    buffer.read(0, &mut out).expect("read");
    assert!(out.iter().all(|b| *b == 0), "zeros");
    let data: Vec<u8> = (0..(9 << 20) + 3_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    buffer.write(8_000_004, &data).expect("written");
    buffer.read(0, &mut out).expect("read");
    assert!(out[8_000_004..][..data.len()] == data[..], "what was written");
    assert!(out[..8_000_004].iter().all(|b| *b == 0), "what lies before");
    assert!(out[8_000_004 + data.len()..].iter().all(|b| *b == 0), "what lies behind");
    assert!(matches!(buffer.write(bytes - 4, &[0; 8]), Err(Error::Mismatch { .. })));
    assert_eq!(device.counters().validation_messages, 0);
}

#[test]
fn what_does_not_fit_is_named() {
    let Some((device, _, _guard)) = open() else { return };
    let refused = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(&device);
        change(&mut plan);
        let mut lent = Vec::new();
        device.allocate_for(&plan, &mut lent).expect("memory");
        let borrowed: Vec<(&str, &Buffer)> = lent.iter().map(|(n, b)| (n.as_str(), b)).collect();
        match device.record(plan, &borrowed) {
            Ok(_) => panic!("it was recorded"),
            Err(e) => e.to_string(),
        }
    };
    let kernel = |plan: &mut Plan, change: &dyn Fn(&mut Kernel)| match &mut plan.launches[2].launch {
        Launch::Kernel(kernel) => change(kernel),
        _ => unreachable!("it is a kernel"),
    };
    let long = refused(&|plan| kernel(plan, &|k| k.words = vec![0; 200]));
    assert!(long.contains("`test_fill` takes 808 bytes of arguments"), "{long}");
    let wide = refused(&|plan| kernel(plan, &|k| k.threads = 1 << 20));
    assert!(wide.contains("`test_fill` wants 1048576 threads"), "{wide}");
    let many = refused(&|plan| kernel(plan, &|k| k.groups = [1, 1, u32::MAX]));
    assert!(many.contains("`test_fill` wants 4294967295 groups in z"), "{many}");
    let outside = refused(&|plan| plan.launches[0].places[1].0.offset = 1000);
    assert!(outside.contains("bytes 1000..+160 of `arena`"), "{outside}");
    assert_eq!(device.counters().validation_messages, 0);
}

#[test]
fn limits_are_measured() {
    let Some((device, validation, guard)) = open() else { return };
    drop((device, guard));
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let vulkan = Vulkan::open(None, &Options { validation, ..Options::default() }).expect("it was there just now");
    let limits = vulkan.measure_limits().expect("limits");
    println!("{}: {limits:?}", vulkan.spec().name);
    assert!((1e8..1e14).contains(&limits.bytes_per_second), "{limits:?}");
    assert!((1e8..1e16).contains(&limits.f32_flops), "{limits:?}");
    assert!((1e-9..1e-1).contains(&limits.launch_seconds), "{limits:?}");
    assert_eq!(vulkan.counters().validation_messages, 0);
}

#[test]
fn an_absent_device_is_named() {
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    match Device::open(Choice::Vulkan(Some(99)), &Options::default()) {
        Ok(device) => panic!("{device}"),
        Err(e) => assert!(matches!(e, Error::Unavailable { .. }), "{e}"),
    }
}

/// Where a test opens Vulkan by itself, its device may be missing and nobody sees it.
#[test]
fn every_test_opens_devices_through_one_function() {
    fn look(folder: &std::path::Path, wrong: &mut Vec<String>, count: &mut usize) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                look(&path, wrong, count);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let tests = if text.contains("#[test]") { &text[..] } else { "" };
                if tests.contains("Choice::Vulkan(None)") {
                    *count += 1;
                    if !tests.contains("there::open(") {
                        wrong.push(path.display().to_string());
                    }
                }
            }
        }
    }
    let (mut wrong, mut count) = (Vec::new(), 0);
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut wrong, &mut count);
    assert!(wrong.is_empty() && count > 8, "{count} files, of which without `there::open`: {wrong:?}");
}
