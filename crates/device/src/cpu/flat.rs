//! A recording on the processor: levels of parts, claimed by threads one after the other; nothing is allocated in a replay.
#![expect(unsafe_code, reason = "launches work on raw memory at the planner's places")]

use super::memory::Host;
use super::pool::{Barrier, Pool};
use crate::{Buffer, Counters, Error, Replay, SLOTS, Ticket};
use graph::plan::{BufferKind, Life};
use graph::{CpuArgs, Launch, Place, Plan};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Bytes that one part copies or fills.
const CHUNK: usize = 1 << 18;
/// What dead bytes are overwritten with: signalling NaNs.
const POISON: u32 = 0x7fa0_0000;

/// A recording.
pub struct Flat {
    program: Program,
    inputs: Vec<(*mut u8, usize)>,
    outputs: Vec<(*mut u8, usize)>,
    rings: Vec<Vec<u8>>,
    next: u64,
    counters: Rc<Cell<Counters>>,
    pool: Rc<Pool>,
    adversarial: bool,
    _held: Vec<Buffer>,
}

struct Program {
    launches: Vec<Prepared>,
    levels: Vec<Level>,
    barrier: Barrier,
}

struct Prepared {
    launch: Launch,
    operands: Vec<(*mut u8, usize)>,
    parts: usize,
}

struct Level {
    /// Launch, and how many parts of the level there are up to its end.
    launches: Vec<(usize, usize)>,
    next: AtomicUsize,
    /// Ranges of the arena that hold nothing of use after the level.
    dead: Vec<(*mut u8, usize)>,
}

// SAFETY: threads share the program only while a replay runs; the planner lets no two launches of a level, and the cards
// no two parts of a launch, write bytes that the other touches.
unsafe impl Sync for Program {}

impl Flat {
    pub fn new(
        plan: &Plan,
        buffers: &[(&str, &Buffer)],
        pool: Rc<Pool>,
        counters: Rc<Cell<Counters>>,
        adversarial: bool,
    ) -> Result<Self, Error> {
        let mut held: Vec<Buffer> = Vec::new();
        for b in &plan.buffers {
            held.push(match buffers.iter().find(|(name, _)| *name == b.name) {
                Some((_, lent)) => Rc::clone(lent),
                None => Rc::new(Host::new(&b.name, b.bytes)?),
            });
        }
        let mut hosts = Vec::new();
        for (b, buffer) in plan.buffers.iter().zip(&held) {
            match buffer.as_any().downcast_ref::<Host>() {
                Some(host) => hosts.push(host.pointer()),
                None => return Err(mismatch(format!("buffer `{}` is another device's", b.name))),
            }
        }
        // SAFETY: the planner placed it inside the buffer.
        let address = |p: &Place| (unsafe { hosts[p.buffer].add(p.offset as usize) }, p.bytes as usize);
        let mut launches = Vec::new();
        for l in &plan.launches {
            let operands: Vec<_> = l.places.iter().map(|(p, _)| address(p)).collect();
            let parts = match &l.launch {
                Launch::Cpu(kernel) => kernel.parts,
                Launch::Copy { .. } | Launch::Fill { .. } => operands[0].1.div_ceil(CHUNK),
                other => return Err(mismatch(format!("`{}` was planned for another device", other.name()))),
            };
            launches.push(Prepared { launch: l.launch.clone(), operands, parts });
        }
        let mut levels: Vec<Level> = (0..plan.levels())
            .map(|_| Level { launches: Vec::new(), next: AtomicUsize::new(0), dead: Vec::new() })
            .collect();
        for (i, l) in plan.launches.iter().enumerate() {
            let level = &mut levels[l.level];
            let before = level.launches.last().map_or(0, |(_, end)| *end);
            level.launches.push((i, before + launches[i].parts));
        }
        if adversarial {
            for (n, level) in levels.iter_mut().enumerate() {
                level.dead = dead_after(plan, n).iter().map(address).collect();
            }
        }
        let outputs: Vec<_> = plan.outputs.iter().map(|b| address(&b.place)).collect();
        Ok(Flat {
            program: Program { launches, levels, barrier: Barrier::new() },
            inputs: plan.inputs.iter().map(|b| address(&b.place)).collect(),
            rings: outputs.iter().map(|o| vec![0; o.1 * SLOTS]).collect(),
            outputs,
            next: 0,
            counters,
            pool,
            adversarial,
            _held: held,
        })
    }
}

fn mismatch(what: String) -> Error {
    Error::Mismatch { device: "cpu".into(), what }
}

/// The parts of the arena that no tensor written up to `level` needs later.
fn dead_after(plan: &Plan, level: usize) -> Vec<Place> {
    let Some((buffer, arena)) = plan.buffers.iter().enumerate().find(|(_, b)| b.kind == BufferKind::Arena) else {
        return Vec::new();
    };
    let needed = |l: &&Life| l.first <= level && level < l.last;
    let mut live: Vec<Place> = plan.lives.iter().filter(needed).map(|l| l.place).collect();
    live.sort_by_key(|p| p.offset);
    let (mut at, mut dead) = (0, Vec::new());
    for place in live {
        if place.offset > at {
            dead.push(Place { buffer, offset: at, bytes: place.offset - at });
        }
        at = at.max((place.offset + place.bytes).next_multiple_of(4));
    }
    if at < arena.bytes {
        dead.push(Place { buffer, offset: at, bytes: arena.bytes - at });
    }
    dead
}

impl Prepared {
    fn run(&self, part: usize) {
        let range = |bytes: usize| (part * CHUNK, CHUNK.min(bytes - part * CHUNK));
        match &self.launch {
            Launch::Cpu(kernel) => (kernel.run)(&CpuArgs { operands: &self.operands, words: &kernel.words }, part),
            Launch::Copy { .. } => {
                let (start, bytes) = range(self.operands[0].1);
                // SAFETY: both operands are in their buffers, of one size, and apart.
                unsafe {
                    std::ptr::copy_nonoverlapping(self.operands[0].0.add(start), self.operands[1].0.add(start), bytes);
                }
            }
            Launch::Fill { word, .. } => {
                let (start, bytes) = range(self.operands[0].1);
                // SAFETY: the part is in its buffer, whose tensors are aligned to more than four bytes.
                unsafe { fill(self.operands[0].0.add(start), bytes, *word) };
            }
            Launch::Kernel(_) | Launch::Gemm(_) => unreachable!("refused when recorded"),
        }
    }
}

/// # Safety
/// `bytes` bytes from `at` on are the caller's to write, and aligned to four.
unsafe fn fill(at: *mut u8, bytes: usize, word: u32) {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(at.cast::<u32>(), bytes / 4) }.fill(word);
}

impl Program {
    /// What each thread does in a replay.
    fn work(&self, threads: usize) {
        let _guard = self.barrier.guard();
        for (n, level) in self.levels.iter().enumerate() {
            let total = level.launches.last().map_or(0, |(_, end)| *end);
            loop {
                let claimed = level.next.fetch_add(1, Ordering::Relaxed);
                if claimed >= total {
                    break;
                }
                let (mut start, mut index) = (0, 0);
                for &(launch, end) in &level.launches {
                    if claimed < end {
                        index = launch;
                        break;
                    }
                    start = end;
                }
                self.launches[index].run(claimed - start);
            }
            // Who runs the job waits for all threads after the last level.
            if threads > 1 && n + 1 < self.levels.len() {
                self.barrier.wait(threads, n + 1);
            }
        }
    }

    fn reset(&self) {
        self.barrier.reset();
        self.levels.iter().for_each(|l| l.next.store(0, Ordering::Relaxed));
    }

    /// A replay in the order that a wrong plan would suffer from most: each level backwards, dead bytes poisoned.
    fn work_adversarially(&self) {
        for level in &self.levels {
            for &(launch, _) in level.launches.iter().rev() {
                let prepared = &self.launches[launch];
                (0..prepared.parts).rev().for_each(|part| prepared.run(part));
            }
            for &(at, bytes) in &level.dead {
                // SAFETY: a range of the arena, aligned like its tensors.
                unsafe { fill(at, bytes, POISON) };
            }
        }
    }
}

impl Replay for Flat {
    fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Error> {
        let (pointer, size) = self.inputs[index];
        if size != bytes.len() {
            return Err(mismatch(format!("an input of {size} bytes is written {}", bytes.len())));
        }
        // SAFETY: the input's place is as large as its type, and replays end before they return.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, size) };
        Ok(())
    }

    fn replay(&mut self) -> Result<Ticket, Error> {
        if self.adversarial {
            self.program.work_adversarially();
        } else {
            self.program.reset();
            let (program, threads) = (&self.program, self.pool.threads());
            self.pool.run(&|_| program.work(threads));
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
        self.wait(ticket)?;
        let size = self.outputs[index].1;
        if size != bytes.len() {
            return Err(mismatch(format!("an output of {size} bytes is read into {}", bytes.len())));
        }
        bytes.copy_from_slice(&self.rings[index][ticket.0 as usize % SLOTS * size..][..size]);
        Ok(())
    }

    fn wait(&mut self, ticket: Ticket) -> Result<(), Error> {
        if ticket.0 >= self.next || ticket.0 + (SLOTS as u64) < self.next + 1 {
            return Err(mismatch(format!("replay {} of {} is not in the ring of {SLOTS}", ticket.0, self.next)));
        }
        Ok(())
    }

    fn time_launches(&mut self) -> Option<Vec<f64>> {
        let mut seconds = vec![0.0; self.program.launches.len()];
        for level in &self.program.levels {
            for &(launch, _) in &level.launches {
                let prepared = &self.program.launches[launch];
                let next = AtomicUsize::new(0);
                let shared = SharedLaunch(prepared);
                let start = Instant::now();
                self.pool.run(&|_| shared.work(&next));
                seconds[launch] = start.elapsed().as_secs_f64();
            }
        }
        Some(seconds)
    }
}

struct SharedLaunch<'a>(&'a Prepared);

// SAFETY: as for `Program`.
unsafe impl Sync for SharedLaunch<'_> {}

impl SharedLaunch<'_> {
    fn work(&self, next: &AtomicUsize) {
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= self.0.parts {
                return;
            }
            self.0.run(part);
        }
    }
}
