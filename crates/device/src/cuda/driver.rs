//! One GPU through the CUDA driver: its context, its one stream, memory, modules and functions.

use super::gemm::Library;
use super::nvrtc::{self, Nvrtc, Text};
use crate::{Counters, Error, Memory, Options, SLOTS};
use cudarc::driver::sys;
use graph::{CudaSource, DeviceKind, Kernel, KernelSource, Limits, Spec};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{null, null_mut};
use std::rc::Rc;

/// Kernels of the device's own.
pub static STEP: CudaSource = CudaSource { name: "step.cu", text: include_str!("step.cu") };

/// The constants that `STEP` is compiled with.
pub fn step_constants() -> Vec<(&'static str, u32)> {
    vec![("SLOTS", SLOTS as u32)]
}

/// A function of a loaded module, with the bytes of parameters that it takes.
#[derive(Clone, Copy)]
pub struct Function(pub sys::CUfunction);

/// A loaded module and the machine code that it came from.
struct Module {
    handle: sys::CUmodule,
    cubin: Vec<u8>,
}

/// Where a text lies, and the constants that it is compiled with.
type ModuleKey = (usize, Vec<(&'static str, u32)>);

/// An open GPU, shared by its memory and its recordings.
pub struct Gpu {
    label: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// Everything runs in this stream, so that replays and copies are in order.
    pub stream: sys::CUstream,
    /// What plans may know of it.
    pub spec: Spec,
    /// What was counted so far.
    pub counters: Cell<Counters>,
    /// cuBLASLt, where it is there and wanted.
    pub library: Option<Library>,
    nvrtc: Nvrtc,
    modules: RefCell<BTreeMap<ModuleKey, Module>>,
}

impl Gpu {
    /// Opens the GPU `index`.
    ///
    /// # Errors
    /// When the driver, NVRTC or the GPU isn't there.
    pub fn open(index: usize, options: &Options) -> Result<Rc<Gpu>, Error> {
        let label = if index == 0 { "cuda".into() } else { format!("cuda:{index}") };
        let absent = |what: String, advice: &str| Error::Unavailable {
            device: label.clone(),
            what,
            advice: format!("{advice}, or use --device cpu"),
        };
        let device = find(index).map_err(|what| absent(what, "install NVIDIA's driver for this machine's GPU"))?;
        let cache = options.cache_folder.clone().or_else(Nvrtc::default_cache);
        let nvrtc = Nvrtc::load(&options.library_folders, cache).map_err(|what| {
            absent(
                what,
                "install a CUDA toolkit or `pip install nvidia-cuda-nvrtc`, and set LD_LIBRARY_PATH if need be",
            )
        })?;
        let (mut context, mut stream) = (null_mut(), null_mut());
        // SAFETY: the device is there, and the places are for handles.
        check(&label, "cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&mut context, device) })?;
        // SAFETY: the context was retained above.
        check(&label, "cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(context) })?;
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: the place is for a handle, the context is current.
        check(&label, "cuStreamCreate", unsafe { sys::cuStreamCreate(&mut stream, flags) })?;
        let library = if options.without_libraries { None } else { Library::open(&options.library_folders) };
        let mut spec = describe(device);
        spec.features = library.iter().map(|_| "cublaslt".to_string()).collect();
        let (counters, modules) = (Cell::default(), RefCell::default());
        Ok(Rc::new(Gpu { label, device, context, stream, spec, counters, library, nvrtc, modules }))
    }

    /// Makes this GPU the one that this thread's calls mean.
    pub fn enter(&self) -> Result<(), Error> {
        // SAFETY: the context is retained as long as `self` lives.
        self.check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }

    /// Memory that the driver has free; 0 where it doesn't say.
    pub fn free_bytes(&self) -> u64 {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the places are for sizes.
        let said = self.enter().is_ok()
            && unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) } == sys::CUresult::CUDA_SUCCESS;
        if said { free as u64 } else { 0 }
    }

    /// The context, for graph nodes that ask for it.
    pub fn context(&self) -> sys::CUcontext {
        self.context
    }

    /// The error of a driver call that failed.
    pub fn check(&self, call: &'static str, result: sys::CUresult) -> Result<(), Error> {
        check(&self.label, call, result)
    }

    /// An error of a plan, buffer or call that doesn't fit.
    pub fn mismatch(&self, what: String) -> Error {
        Error::Mismatch { device: self.label.clone(), what }
    }

    /// An error of a library call.
    pub fn failure(&self, call: &'static str, what: String) -> Error {
        Error::Driver { device: self.label.clone(), call, what }
    }

    /// Changes the counters.
    pub fn count(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    /// Waits for everything queued so far.
    pub fn synchronize(&self) -> Result<(), Error> {
        // SAFETY: the stream lives as long as `self`.
        self.check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Compiles and loads the modules of `kernels` that aren't loaded yet, on up to eight threads.
    pub fn load<'a>(&self, kernels: impl Iterator<Item = &'a Kernel>) -> Result<(), Error> {
        self.enter()?;
        let mut missing: BTreeMap<ModuleKey, &CudaSource> = BTreeMap::new();
        for kernel in kernels {
            let KernelSource::Cuda(source) = kernel.source else {
                return Err(self.mismatch(format!("`{}` is no CUDA kernel", kernel.entry)));
            };
            let key = (source.text.as_ptr() as usize, kernel.constants.clone());
            if !self.modules.borrow().contains_key(&key) {
                missing.insert(key, source);
            }
        }
        let texts: Vec<_> = missing
            .iter()
            .map(|((_, constants), source)| Text { name: source.name, text: source.text, constants })
            .collect();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
        let cubins = nvrtc::compile_texts(&self.nvrtc, &texts, &self.spec.architecture, threads)?;
        for (key, cubin) in missing.keys().zip(cubins) {
            let mut handle = null_mut();
            // SAFETY: the image is a whole CUBIN, which the driver copies.
            self.check("cuModuleLoadData", unsafe { sys::cuModuleLoadData(&mut handle, cubin.as_ptr().cast()) })?;
            self.modules.borrow_mut().insert(key.clone(), Module { handle, cubin });
        }
        Ok(())
    }

    /// The function of a kernel whose module is loaded, allowed the shared memory that the kernel asks for.
    pub fn function(&self, kernel: &Kernel) -> Result<Function, Error> {
        let KernelSource::Cuda(source) = kernel.source else {
            return Err(self.mismatch(format!("`{}` is no CUDA kernel", kernel.entry)));
        };
        let key = (source.text.as_ptr() as usize, kernel.constants.clone());
        let modules = self.modules.borrow();
        let module = modules.get(&key).ok_or_else(|| self.mismatch(format!("`{}` isn't loaded", kernel.entry)))?;
        nvrtc::check_arguments(&module.cubin, kernel)
            .map_err(|what| self.mismatch(format!("{}: {what}", source.name)))?;
        if kernel.shared_bytes > self.spec.shared_bytes {
            let have = self.spec.shared_bytes;
            let what = format!("`{}` asks for {} bytes of shared memory of {have}", kernel.entry, kernel.shared_bytes);
            return Err(self.mismatch(what));
        }
        let name = CString::new(kernel.entry).map_err(|e| self.mismatch(e.to_string()))?;
        let mut function = null_mut();
        // SAFETY: the module is loaded, the name outlives the call.
        let result = unsafe { sys::cuModuleGetFunction(&mut function, module.handle, name.as_ptr()) };
        self.check("cuModuleGetFunction", result)?;
        if kernel.shared_bytes > 48 << 10 {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // A function's limit only grows: another recording may hold the same function.
            let mut limit = 0;
            // SAFETY: the function was just found; the place is for an int.
            self.check("cuFuncGetAttribute", unsafe { sys::cuFuncGetAttribute(&mut limit, attribute, function) })?;
            if limit < kernel.shared_bytes as c_int {
                // SAFETY: as above.
                let result = unsafe { sys::cuFuncSetAttribute(function, attribute, kernel.shared_bytes as c_int) };
                self.check("cuFuncSetAttribute", result)?;
            }
        }
        Ok(Function(function))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        let _ = self.enter();
        let _ = self.synchronize();
        self.library = None;
        for module in self.modules.borrow().values() {
            // SAFETY: what used its functions (recordings) held `self` and is gone.
            unsafe { sys::cuModuleUnload(module.handle) };
        }
        // SAFETY: the stream is idle and the last user is gone; the context was retained once by `open`.
        unsafe {
            sys::cuStreamDestroy_v2(self.stream);
            sys::cuDevicePrimaryCtxRelease_v2(self.device);
        }
    }
}

/// The GPU of an index, or what is missing.
fn find(index: usize) -> Result<sys::CUdevice, String> {
    // SAFETY: it loads the driver's library and lets go of it.
    if !unsafe { sys::is_culib_present() } {
        return Err("the NVIDIA driver's library (libcuda.so.1) is not there".into());
    }
    // SAFETY: the library is there.
    let started = unsafe { sys::cuInit(0) };
    if started == sys::CUresult::CUDA_ERROR_NO_DEVICE {
        return Err("the driver finds no NVIDIA GPU".into());
    }
    check("", "cuInit", started).map_err(|e| e.to_string())?;
    let (mut version, mut count, mut device) = (0, 0, 0);
    // SAFETY: the places are for ints.
    check("", "cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&mut version) }).map_err(|e| e.to_string())?;
    if version < 12080 {
        return Err(format!(
            "the driver is for CUDA {}.{}; 12.8 or newer is needed",
            version / 1000,
            version % 1000 / 10
        ));
    }
    // SAFETY: as above.
    check("", "cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&mut count) }).map_err(|e| e.to_string())?;
    if index >= count as usize {
        let all: Vec<_> = (0..count).map(|i| format!("cuda:{i}")).collect();
        return Err(format!("there is no GPU {index}; there is {}", all.join(", ")));
    }
    // SAFETY: the index is in range.
    check("", "cuDeviceGet", unsafe { sys::cuDeviceGet(&mut device, index as c_int) }).map_err(|e| e.to_string())?;
    Ok(device)
}

/// What plans may know of a GPU; limits estimated from clocks.
fn describe(device: sys::CUdevice) -> Spec {
    use sys::CUdevice_attribute_enum as A;
    let attribute = |which| {
        let mut value = 0;
        // SAFETY: the device is there; an unknown attribute leaves the zero.
        unsafe { sys::cuDeviceGetAttribute(&mut value, which, device) };
        u32::try_from(value).unwrap_or(0)
    };
    let mut name = [0; 256];
    let mut memory_bytes = 0;
    // SAFETY: the lengths are those of the places; the name ends with a zero.
    let name = unsafe {
        sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int - 1, device);
        sys::cuDeviceTotalMem_v2(&mut memory_bytes, device);
        CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
    };
    let [major, minor] =
        [A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR]
            .map(attribute);
    let units = attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    let clock = 1e3 * f64::from(attribute(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).max(1_000_000));
    let memory_clock = 1e3 * f64::from(attribute(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).max(1_000_000));
    let memory_bits = f64::from(attribute(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH).max(128));
    Spec {
        kind: DeviceKind::Cuda,
        name,
        architecture: format!("sm_{major}{minor}"),
        units,
        subgroup_size: attribute(A::CU_DEVICE_ATTRIBUTE_WARP_SIZE),
        max_threads: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
        shared_bytes: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
        memory_bytes: memory_bytes as u64,
        largest_allocation: memory_bytes as u64,
        argument_bytes: 4096,
        features: Vec::new(),
        limits: Limits {
            // Two transfers a clock.
            bytes_per_second: memory_clock * 2.0 * memory_bits / 8.0,
            // 128 multiply-adds a clock and multiprocessor.
            f32_flops: clock * f64::from(units) * 256.0,
            launch_seconds: 2e-6,
        },
    }
}

fn check(device: &str, call: &'static str, result: sys::CUresult) -> Result<(), Error> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = null();
    // SAFETY: the answer is a static string or stays null.
    let what = unsafe {
        sys::cuGetErrorString(result, &mut text);
        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(Error::Driver { device: device.into(), call, what: format!("{what} ({result:?})") })
}

/// Memory of a GPU.
pub struct DeviceMemory {
    gpu: Rc<Gpu>,
    address: sys::CUdeviceptr,
    bytes: u64,
}

impl DeviceMemory {
    /// `bytes` bytes of zeros, aligned to 256.
    pub fn new(gpu: &Rc<Gpu>, purpose: &str, bytes: u64) -> Result<DeviceMemory, Error> {
        gpu.enter()?;
        let whole = bytes.max(1).next_multiple_of(256) as usize;
        let mut address = 0;
        // SAFETY: the place is for an address.
        let result = unsafe { sys::cuMemAlloc_v2(&mut address, whole) };
        if result == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let (device, purpose) = (gpu.label.clone(), purpose.into());
            return Err(Error::Memory { device, purpose, need: bytes, have: gpu.free_bytes() });
        }
        gpu.check("cuMemAlloc", result)?;
        gpu.count(|c| c.device_allocations += 1);
        let memory = DeviceMemory { gpu: Rc::clone(gpu), address, bytes };
        // SAFETY: the memory was just allocated with this size.
        gpu.check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(address, 0, whole, gpu.stream) })?;
        gpu.synchronize()?;
        Ok(memory)
    }

    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Whether it is memory of this GPU as opened.
    pub fn belongs_to(&self, gpu: &Rc<Gpu>) -> bool {
        Rc::ptr_eq(&self.gpu, gpu)
    }

    fn check_range(&self, offset: u64, length: usize) -> Result<(), Error> {
        if offset.checked_add(length as u64).is_some_and(|end| end <= self.bytes) {
            return self.gpu.enter();
        }
        Err(self.gpu.mismatch(format!("bytes {offset} + {length} of a buffer of {}", self.bytes)))
    }
}

impl Memory for DeviceMemory {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.check_range(offset, bytes.len())?;
        let (to, from) = (self.address + offset, bytes.as_ptr().cast());
        // SAFETY: the range is inside the buffer, and the source lives until the copy has ended.
        let result = unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, bytes.len(), self.gpu.stream) };
        self.gpu.check("cuMemcpyHtoDAsync", result)?;
        self.gpu.synchronize()
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.check_range(offset, bytes.len())?;
        let (to, from) = (bytes.as_mut_ptr().cast(), self.address + offset);
        // SAFETY: the range is inside the buffer, and the target lives until the copy has ended.
        let result = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes.len(), self.gpu.stream) };
        self.gpu.check("cuMemcpyDtoHAsync", result)?;
        self.gpu.synchronize()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        // Freed memory may be given out again while what is queued still uses it.
        let _ = self.gpu.synchronize();
        // SAFETY: allocated by `new`, and nothing queued uses it.
        unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// Host memory that the GPU reads and writes too.
pub struct PinnedMemory {
    gpu: Rc<Gpu>,
    host: *mut u8,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl PinnedMemory {
    /// `bytes` bytes of zeros.
    pub fn new(gpu: &Rc<Gpu>, bytes: usize) -> Result<PinnedMemory, Error> {
        gpu.enter()?;
        let bytes = bytes.max(16);
        let (mut host, mut address): (*mut c_void, _) = (null_mut(), 0);
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the place is for an address.
        gpu.check("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&mut host, bytes, flags) })?;
        // SAFETY: the memory was just allocated with this size.
        unsafe { host.cast::<u8>().write_bytes(0, bytes) };
        // SAFETY: allocated above as mapped.
        let result = unsafe { sys::cuMemHostGetDevicePointer_v2(&mut address, host, 0) };
        let memory = PinnedMemory { gpu: Rc::clone(gpu), host: host.cast(), address, bytes };
        gpu.check("cuMemHostGetDevicePointer", result)?;
        Ok(memory)
    }

    /// Its address on the device.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies `bytes` to `offset`. The caller knows that the device doesn't use that range now.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.bytes && bytes.len() <= self.bytes - offset);
        // SAFETY: in bounds by the assertion.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.host.add(offset), bytes.len()) };
    }

    /// Copies bytes from `offset`. The caller knows that the device doesn't write that range now.
    pub fn get(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset <= self.bytes && bytes.len() <= self.bytes - offset);
        // SAFETY: in bounds by the assertion.
        unsafe { std::ptr::copy_nonoverlapping(self.host.add(offset), bytes.as_mut_ptr(), bytes.len()) };
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        let _ = self.gpu.enter();
        let _ = self.gpu.synchronize();
        // SAFETY: allocated by `new`, and nothing queued uses it.
        unsafe { sys::cuMemFreeHost(self.host.cast()) };
    }
}
