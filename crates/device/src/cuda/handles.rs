//! Graphs, their executables and events, destroyed when dropped.

use super::driver::Gpu;
use crate::Error;
use cudarc::driver::sys;
use std::ptr::null_mut;
use std::rc::Rc;

/// A graph being built.
pub struct Graph(pub sys::CUgraph);

impl Graph {
    /// A graph without nodes.
    pub fn new(gpu: &Gpu) -> Result<Graph, Error> {
        let mut handle = null_mut();
        // SAFETY: the place is for a handle.
        gpu.check("cuGraphCreate", unsafe { sys::cuGraphCreate(&mut handle, 0) })?;
        Ok(Graph(handle))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by the driver for this owner.
        unsafe { sys::cuGraphDestroy(self.0) };
    }
}

/// A graph ready to be launched.
pub struct Executable {
    /// For the driver.
    pub handle: sys::CUgraphExec,
    gpu: Rc<Gpu>,
}

impl Executable {
    /// Makes a graph ready.
    pub fn new(gpu: &Rc<Gpu>, graph: &Graph) -> Result<Executable, Error> {
        let mut handle = null_mut();
        // SAFETY: the graph lives; the place is for a handle.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&mut handle, graph.0, 0) };
        gpu.check("cuGraphInstantiate", result)?;
        Ok(Executable { handle, gpu: Rc::clone(gpu) })
    }

    /// Queues one run of it.
    pub fn launch(&self) -> Result<(), Error> {
        // SAFETY: graph and stream live.
        self.gpu.check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.handle, self.gpu.stream) })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        let _ = self.gpu.synchronize();
        // SAFETY: made by `new`, and no run of it is queued.
        unsafe { sys::cuGraphExecDestroy(self.handle) };
    }
}

/// A mark in the stream.
pub struct Event(pub sys::CUevent);

impl Event {
    /// An event, with a time or without.
    pub fn new(gpu: &Gpu, timed: bool) -> Result<Event, Error> {
        let mut handle = null_mut();
        let flags = if timed { 0 } else { sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32 };
        // SAFETY: the place is for a handle.
        gpu.check("cuEventCreate", unsafe { sys::cuEventCreate(&mut handle, flags) })?;
        Ok(Event(handle))
    }

    /// Marks what was queued so far.
    pub fn record(&self, gpu: &Gpu) -> Result<(), Error> {
        // SAFETY: event and stream live.
        gpu.check("cuEventRecord", unsafe { sys::cuEventRecord(self.0, gpu.stream) })
    }

    /// Seconds from this mark to a later one, both reached.
    pub fn seconds_until(&self, gpu: &Gpu, later: &Event) -> Result<f64, Error> {
        let mut milliseconds = 0.0;
        // SAFETY: both are timed and recorded.
        let result = unsafe { sys::cuEventElapsedTime_v2(&mut milliseconds, self.0, later.0) };
        gpu.check("cuEventElapsedTime", result)?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}
