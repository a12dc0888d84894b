//! The CUDA device by itself, with plans made by hand: every kind of launch in one graph, tickets, counts, products.

use device::cuda::Cuda;
use device::{Buffer, Device, Error, Machine, Options, Recording, SLOTS};
use graph::launch::Epilogue;
use graph::plan::{Access, Binding, BufferKind, BufferPlan, PlannedNode};
use graph::{
    Cost, CudaSource, Gemm, Kernel, KernelSource, Launch, Operand, Place, Plan, PlannedLaunch, Spec, TensorType,
};
use tensor::rng::Philox;

#[global_allocator]
static ALLOCATOR: device::count::CountingAllocator = device::count::CountingAllocator;

static SOURCE: CudaSource = CudaSource {
    name: "cuda_machine.cu",
    text: r#"
extern "C" __global__ void add_scaled(const float* x, const float* y, float* out, unsigned n, float s) {
  unsigned i = blockIdx.x * THREADS + threadIdx.x;
  if (i < n) out[i] = x[i] + s * y[i];
}
extern "C" __global__ void count(unsigned* counter) {
  if (threadIdx.x == 0) *counter += 1;
}
extern "C" __global__ void reverse(const float* x, float* out, unsigned n) {
  extern __shared__ float held[];
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) held[i] = x[i];
  __syncthreads();
  for (unsigned i = threadIdx.x; i < n; i += blockDim.x) out[i] = held[n - 1 - i];
}"#,
};

const ARENA: usize = 0;
const INPUTS: usize = 1;
const OUTPUTS: usize = 2;
const STATE: usize = 3;

/// A plan with these sizes of arena, inputs, outputs and state; inputs and outputs are bound as a whole.
fn plan(spec: &Spec, bytes: [u64; 4], launches: Vec<(Launch, Vec<(Place, Access)>)>) -> Plan {
    let kinds = [BufferKind::Arena, BufferKind::Inputs, BufferKind::Outputs, BufferKind::Region];
    let names = ["arena", "inputs", "outputs", "state"];
    let buffers = (0..4).map(|i| BufferPlan { name: names[i].into(), kind: kinds[i], bytes: bytes[i] }).collect();
    let whole = |buffer: usize| Binding {
        name: names[buffer].into(),
        ty: TensorType::f32([bytes[buffer] as usize / 4]),
        place: Place { buffer, offset: 0, bytes: bytes[buffer] },
    };
    let mut planned: Vec<PlannedLaunch> = Vec::new();
    for (launch, places) in launches {
        let conflict = |earlier: &PlannedLaunch| {
            let pairs = earlier.places.iter().flat_map(|a| places.iter().map(move |b| (a, b)));
            pairs.into_iter().any(|(a, b)| a.0.overlaps(&b.0) && (a.1 == Access::Write || b.1 == Access::Write))
        };
        let after: Vec<usize> = (0..planned.len()).filter(|&i| conflict(&planned[i])).collect();
        let level = after.iter().map(|&i| planned[i].level + 1).max().unwrap_or(0);
        planned.push(PlannedLaunch { launch, places, node: 0, after, level });
    }
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
        spec: spec.clone(),
        buffers,
        launches: planned,
        nodes: vec![node],
        inputs: vec![whole(INPUTS)],
        outputs: vec![whole(OUTPUTS)],
        entries: Vec::new(),
        lives: Vec::new(),
    }
}

fn kernel(entry: &'static str, groups: u32, shared_bytes: u32, words: Vec<u32>, operands: usize) -> Launch {
    Launch::Kernel(Kernel {
        source: KernelSource::Cuda(&SOURCE),
        entry,
        constants: vec![("THREADS", 256)],
        groups: [groups, 1, 1],
        threads: 256,
        shared_bytes,
        words,
        operands: (0..operands).map(Operand::Scratch).collect(),
    })
}

fn read(buffer: usize, offset: u64, bytes: u64) -> (Place, Access) {
    (Place { buffer, offset, bytes }, Access::Read)
}

fn write(buffer: usize, offset: u64, bytes: u64) -> (Place, Access) {
    (Place { buffer, offset, bytes }, Access::Write)
}

fn lend(device: &Device, plan: &Plan) -> Vec<(String, Buffer)> {
    let mut lent = Vec::new();
    device.allocate_for(plan, &mut lent).unwrap();
    lent
}

fn record(device: &Device, plan: Plan, lent: &[(String, Buffer)]) -> Recording {
    let buffers: Vec<_> = lent.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    device.record(plan, &buffers).unwrap_or_else(|e| panic!("{e}"))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()))
}

const N: u64 = 4096;
const B: u64 = 4 * N;
const COPY: Launch = Launch::Copy { from: Operand::Input(0), to: Operand::Output(0) };

/// outputs = x + 2 * 1.5, the number of the replay, and x reversed.
fn every_kind(spec: &Spec) -> Plan {
    let n = N as u32;
    let fill = Launch::Fill { to: Operand::Output(0), word: 1.5_f32.to_bits() };
    let add = kernel("add_scaled", n.div_ceil(256), 0, vec![n, 2.0_f32.to_bits()], 3);
    let launches = vec![
        (fill, vec![write(ARENA, 0, B)]),
        (COPY, vec![read(INPUTS, 0, B), write(ARENA, B, B)]),
        (kernel("count", 1, 0, vec![], 1), vec![write(STATE, 4, 4)]),
        (add, vec![read(ARENA, B, B), read(ARENA, 0, B), write(ARENA, 2 * B, B)]),
        (COPY, vec![read(STATE, 4, 4), write(OUTPUTS, 2 * B + 4, 4)]),
        (COPY, vec![read(ARENA, 2 * B, B), write(OUTPUTS, 0, B)]),
        (kernel("reverse", 1, 64 << 10, vec![n], 2), vec![read(INPUTS, 0, B), write(OUTPUTS, B, B)]),
    ];
    plan(spec, [3 * B, B, 2 * B + 8, 8], launches)
}

fn replays_and_reads(device: &Device) {
    let plan = every_kind(device.spec());
    let lent = lend(device, &plan);
    let launches = plan.launches.len();
    let mut recording = record(device, plan, &lent);
    let (mut x, mut out) = (vec![0_u8; B as usize], vec![0_u8; 2 * B as usize + 8]);
    let value = |step: u64, i: u64| (step * 31 + i) as f32;
    let check = |step: u64, out: &[u8]| {
        let read: Vec<f32> = floats(out).collect();
        for i in 0..N {
            assert_eq!(read[i as usize], value(step, i) + 3.0, "step {step}, element {i}");
            assert_eq!(read[(N + i) as usize], value(step, N - 1 - i), "step {step}, reversed element {i}");
        }
        assert_eq!(u64::from(read[2 * N as usize + 1].to_bits()), step + 1, "counted steps");
    };
    let before = device.counters();
    let mut allocations = 0;
    for step in 0..1000_u64 {
        x.chunks_exact_mut(4).zip(0..).for_each(|(b, i)| b.copy_from_slice(&value(step, i).to_le_bytes()));
        let from = device::count::host_allocations_of_thread();
        recording.write(0, &x).unwrap();
        let ticket = recording.replay().unwrap();
        assert_eq!(ticket.0, step);
        if step >= 10 {
            recording.read(0, device::Ticket(step - 10), &mut out).unwrap();
        }
        allocations += device::count::host_allocations_of_thread() - from;
        if step >= 10 {
            check(step - 10, &out);
        }
    }
    let after = device.counters();
    assert_eq!(allocations, 0, "host allocations in 1000 replays");
    assert_eq!(after.device_allocations, before.device_allocations);
    assert_eq!(after.submissions - before.submissions, 1000);
    assert!(recording.read(0, device::Ticket(1000 - SLOTS as u64), &mut out).is_err(), "its slot may be written");
    assert!(recording.read(0, device::Ticket(1000), &mut out).is_err(), "it has not begun");
    recording.read(0, device::Ticket(1001 - SLOTS as u64), &mut out).unwrap();
    check(1001 - SLOTS as u64, &out);
    // More replays than slots without reading; what isn't written again keeps its bytes.
    let from = std::time::Instant::now();
    let last = (0..1000).map(|_| recording.replay().unwrap()).last().unwrap();
    recording.wait(last).unwrap();
    println!("{} launches a replay: {:.1} us a replay", launches, from.elapsed().as_secs_f64() * 1e3);
    let times = recording.time_launches().unwrap();
    assert_eq!(times.len(), launches);
    println!("us a launch: {:.2?}", times.iter().map(|t| t * 1e6).collect::<Vec<_>>());
    recording.read(0, device::Ticket(last.0 + 1), &mut out).unwrap();
    assert_eq!(u64::from(floats(&out).last().unwrap().to_bits()), 2001);
    assert_eq!(floats(&out).next().unwrap(), value(999, 0) + 3.0);
    let mut state = [0; 8];
    lent.iter().find(|(name, _)| name == "state").unwrap().1.read(0, &mut state).unwrap();
    assert_eq!(state, [0, 0, 0, 0, 0xd1, 0x07, 0, 0]);
}

/// Inputs a, b and bias; d begins as 0.5 everywhere.
fn product(device: &Device, gemm: &Gemm) -> f64 {
    let [a, b] = [gemm.m * gemm.k, gemm.k * gemm.n].map(|size| 4 * (size * gemm.batch) as u64);
    let [bias, d] = [4 * gemm.n, 4 * gemm.m * gemm.n * gemm.batch].map(|bytes| bytes as u64);
    let [at_b, at_bias] = [a.next_multiple_of(256), a.next_multiple_of(256) + b.next_multiple_of(256)];
    let at_scratch = d.next_multiple_of(256);
    let mut places =
        vec![read(STATE, 0, a), read(STATE, at_b, b), write(ARENA, 0, d), write(ARENA, at_scratch, gemm.scratch.1)];
    if gemm.bias.is_some() {
        places.push(read(STATE, at_bias, bias));
    }
    let launches = vec![
        (Launch::Fill { to: Operand::Output(0), word: 0.5_f32.to_bits() }, vec![write(ARENA, 0, d)]),
        (Launch::Gemm(gemm.clone()), places),
        (COPY, vec![read(ARENA, 0, d), write(OUTPUTS, 0, d)]),
    ];
    let plan = plan(device.spec(), [at_scratch + gemm.scratch.1, 0, d, at_bias + bias], launches);
    let lent = lend(device, &plan);
    let state = &lent.iter().find(|(name, _)| name == "state").unwrap().1;
    let [a, b, bias] = [("a", 0, a), ("b", at_b, b), ("bias", at_bias, bias)].map(|(name, offset, bytes)| {
        let mut values = vec![0.0_f32; bytes as usize / 4];
        Philox::new(3, name).fill_normal(&mut values, 0.0, 1.0);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        state.write(offset, &bytes).unwrap();
        values
    });
    let mut recording = record(device, plan, &lent);
    let (mut first, mut again) = (vec![0; d as usize], vec![0; d as usize]);
    let ticket = recording.replay().unwrap();
    recording.read(0, ticket, &mut first).unwrap();
    for _ in 0..9 {
        let ticket = recording.replay().unwrap();
        recording.read(0, ticket, &mut again).unwrap();
        assert!(first == again, "other bits in another run of {gemm:?}");
    }
    let got: Vec<f32> = floats(&first).collect();
    worst(gemm, &a, &b, &bias, &got)
}

fn worst(gemm: &Gemm, a: &[f32], b: &[f32], bias: &[f32], got: &[f32]) -> f64 {
    let (m, n, k) = (gemm.m, gemm.n, gemm.k);
    let mut worst = 0.0_f64;
    for (batch, i, j) in (0..gemm.batch).flat_map(|t| (0..m).flat_map(move |i| (0..n).map(move |j| (t, i, j)))) {
        let (a, b) = (&a[batch * m * k..], &b[batch * k * n..]);
        let mut want: f64 = (0..k)
            .map(|l| {
                let left = if gemm.transpose_a { a[l * m + i] } else { a[i * k + l] };
                let right = if gemm.transpose_b { b[j * k + l] } else { b[l * n + j] };
                f64::from(left) * f64::from(right)
            })
            .sum();
        want += match gemm.epilogue {
            Epilogue::None => 0.0,
            Epilogue::Bias => f64::from(bias[j]),
            Epilogue::Accumulate => 0.5,
        };
        let error = (f64::from(got[(batch * m + i) * n + j]) - want).abs() / (1.0 + want.abs());
        worst = worst.max(if error.is_nan() { f64::INFINITY } else { error });
    }
    worst
}

fn products(device: &Device) {
    if !device.spec().has("cublaslt") {
        return println!("skipped: cuBLASLt isn't there");
    }
    let mut worst = 0.0_f64;
    for (m, n, k, batch) in [(64, 48, 80, 1), (33, 17, 129, 3), (8, 24, 4096, 1), (200, 300, 64, 2), (1, 7, 5, 1)] {
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            for epilogue in [Epilogue::None, Epilogue::Bias, Epilogue::Accumulate] {
                let gemm = Gemm {
                    dtype: tensor::DType::F32,
                    m,
                    n,
                    k,
                    batch,
                    strides: [m * k, k * n, m * n],
                    transpose_a,
                    transpose_b,
                    epilogue,
                    a: Operand::Input(0),
                    b: Operand::Input(1),
                    bias: (epilogue == Epilogue::Bias).then_some(Operand::Input(2)),
                    d: Operand::Output(0),
                    scratch: (Operand::Scratch(0), 4 << 20),
                };
                let error = product(device, &gemm);
                // The rounding of a sum grows with the root of its terms.
                let share = error / (1.6e-5 + 1.5e-7 * k as f64);
                assert!(share < 1.0, "error {error:.2e} of {gemm:?}");
                worst = worst.max(share);
            }
        }
    }
    println!("60 products by cuBLASLt: worst error {worst:.2} of what is allowed, the same bits in 10 runs each");
}

#[test]
fn the_machine_does_what_plans_say() {
    let device = match Device::open(device::Choice::Cuda(0), &Options::default()) {
        Ok(device) => device,
        Err(Error::Unavailable { what, .. }) => return println!("skipped: {what}"),
        Err(e) => panic!("{e}"),
    };
    println!("{device}: {:?}", device.spec());
    replays_and_reads(&device);
    products(&device);
    let without = Options { without_libraries: true, ..Options::default() };
    assert!(!Cuda::open(0, &without).unwrap().spec().has("cublaslt"));
    println!("{:?}", Cuda::open(0, &Options::default()).unwrap().measure().unwrap());
    assert!(matches!(Cuda::open(99, &Options::default()), Err(Error::Unavailable { .. })));
}
