//! This machine's processor: a recording is a flat list, run by spinning threads with one barrier a level.
#![expect(unsafe_code, reason = "memory shared by threads that write disjoint parts")]

use crate::{Buffer, Counters, Error, Machine, Memory, Options, Replay, SLOTS, Ticket};
use graph::{CpuArgs, CpuKernel, DeviceKind, Launch, Limits, Place, Plan, Spec};
use std::cell::{Cell, UnsafeCell};
use std::rc::Rc;

/// The open processor.
pub struct Cpu {
    spec: Spec,
    counters: Rc<Cell<Counters>>,
}

impl Cpu {
    /// Opens the processor.
    ///
    /// # Errors
    /// When an option asks for what isn't there.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let spec = Spec {
            kind: DeviceKind::Cpu,
            name: "cpu".into(),
            architecture: options.architecture.clone().unwrap_or_else(|| "portable".into()),
            units: 1,
            subgroup_size: 1,
            max_threads: 1,
            shared_bytes: 0,
            memory_bytes: 16 << 30,
            largest_allocation: 1 << 40,
            argument_bytes: 0,
            features: Vec::new(),
            limits: Limits { bytes_per_second: 80e9, f32_flops: 500e9, launch_seconds: 1e-7 },
        };
        Ok(Cpu { spec, counters: Rc::default() })
    }
}

struct Host {
    words: UnsafeCell<Vec<u64>>,
    bytes: u64,
}

impl Host {
    fn new(bytes: u64) -> Self {
        Host { words: UnsafeCell::new(vec![0; bytes.div_ceil(8) as usize + 8]), bytes }
    }

    fn pointer(&self) -> *mut u8 {
        // SAFETY: only the address is taken; who reads and writes through it says why it may.
        unsafe { (*self.words.get()).as_mut_ptr().cast() }
    }
}

impl Memory for Host {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        assert!(offset + bytes.len() as u64 <= self.bytes);
        // SAFETY: in bounds by the assertion, and no replay is running.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer().add(offset as usize), bytes.len()) };
        Ok(())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        assert!(offset + bytes.len() as u64 <= self.bytes);
        // SAFETY: in bounds by the assertion, and no replay is running.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer().add(offset as usize), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Machine for Cpu {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn allocate(&self, _purpose: &str, bytes: u64) -> Result<Buffer, Error> {
        Ok(Rc::new(Host::new(bytes)))
    }

    fn record(&self, plan: &Plan, buffers: &[(&str, &Buffer)]) -> Result<Box<dyn Replay>, Error> {
        let held: Vec<Buffer> = plan
            .buffers
            .iter()
            .map(|b| match buffers.iter().find(|(name, _)| *name == b.name) {
                Some((_, lent)) => Rc::clone(lent),
                None => Rc::new(Host::new(b.bytes)),
            })
            .collect();
        let address = |p: &Place| {
            let host = held[p.buffer].as_any().downcast_ref::<Host>().expect("the processor's own memory");
            // SAFETY: the planner placed it inside the buffer.
            (unsafe { host.pointer().add(p.offset as usize) }, p.bytes as usize)
        };
        let launches = plan
            .launches
            .iter()
            .map(|l| (l.launch.clone(), l.places.iter().map(|(p, _)| address(p)).collect()))
            .collect();
        let inputs = plan.inputs.iter().map(|b| address(&b.place)).collect();
        let outputs: Vec<_> = plan.outputs.iter().map(|b| address(&b.place)).collect();
        let rings = outputs.iter().map(|o| vec![0; o.1 * SLOTS]).collect();
        Ok(Box::new(Flat {
            launches,
            inputs,
            outputs,
            rings,
            next: 0,
            counters: Rc::clone(&self.counters),
            _held: held,
        }))
    }

    fn counters(&self) -> Counters {
        self.counters.get()
    }
}

struct Flat {
    launches: Vec<(Launch, Vec<(*mut u8, usize)>)>,
    inputs: Vec<(*mut u8, usize)>,
    outputs: Vec<(*mut u8, usize)>,
    rings: Vec<Vec<u8>>,
    next: u64,
    counters: Rc<Cell<Counters>>,
    _held: Vec<Buffer>,
}

impl Replay for Flat {
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let (pointer, size) = self.inputs[index];
        assert_eq!(size, bytes.len());
        // SAFETY: the input's place is as large as its type, and no replay is running.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, size) };
        Ok(())
    }

    fn replay(&mut self) -> Result<Ticket, Error> {
        for (launch, operands) in &self.launches {
            match launch {
                Launch::Cpu(CpuKernel { parts, run, words, .. }) => {
                    let args = CpuArgs { operands, words };
                    (0..*parts).for_each(|part| run(&args, part));
                }
                // SAFETY: the planner placed both operands, equal in size and apart.
                Launch::Copy { .. } => unsafe {
                    std::ptr::copy_nonoverlapping(operands[0].0, operands[1].0, operands[1].1);
                },
                Launch::Fill { word, .. } => {
                    // SAFETY: the planner placed the operand, aligned to more than four bytes.
                    let out = unsafe { std::slice::from_raw_parts_mut(operands[0].0.cast::<u32>(), operands[0].1 / 4) };
                    out.fill(*word);
                }
                Launch::Kernel(_) | Launch::Gemm(_) => unreachable!("planned for another device"),
            }
        }
        let slot = self.next as usize % SLOTS;
        for ((pointer, size), ring) in self.outputs.iter().zip(&mut self.rings) {
            // SAFETY: the output's place is as large as its type, and the launches have ended.
            let out = unsafe { std::slice::from_raw_parts(*pointer, *size) };
            ring[slot * size..][..*size].copy_from_slice(out);
        }
        let mut counters = self.counters.get();
        counters.submissions += 1;
        self.counters.set(counters);
        self.next += 1;
        Ok(Ticket(self.next - 1))
    }

    fn read(&mut self, index: usize, ticket: Ticket, bytes: &mut [u8]) -> Result<(), Error> {
        let size = self.outputs[index].1;
        bytes.copy_from_slice(&self.rings[index][ticket.0 as usize % SLOTS * size..][..size]);
        Ok(())
    }

    fn wait(&mut self, _ticket: Ticket) -> Result<(), Error> {
        Ok(())
    }

    fn time_launches(&mut self) -> Option<Vec<f64>> {
        None
    }
}
