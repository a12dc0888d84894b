//! NVRTC: CUDA C++ text to machine code (CUBIN) at run time, kept on disk by what it was made from.

use super::{cubin, folders};
use crate::Error;
use graph::{Kernel, KernelSource};
use libloading::Library;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

type Program = *mut std::ffi::c_void;
type Status = c_int;

/// The functions of NVRTC that are used.
#[derive(Clone, Copy)]
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Program) -> Status,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Status,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Status,
}

/// The loaded compiler. It may be used from several threads.
pub struct Nvrtc {
    functions: Functions,
    version: (i32, i32),
    cache: Option<PathBuf>,
    /// The functions are its.
    _library: Library,
}

/// One text to compile: a source with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'a> {
    /// The file's name, for messages.
    pub name: &'a str,
    /// The whole text.
    pub text: &'a str,
    /// Compile-time constants.
    pub constants: &'a [(&'static str, u32)],
}

impl<'a> Text<'a> {
    /// The text of a kernel; `None` when it isn't CUDA's.
    pub fn of(kernel: &'a Kernel) -> Option<Self> {
        match kernel.source {
            KernelSource::Cuda(s) => Some(Text { name: s.name, text: s.text, constants: &kernel.constants }),
            KernelSource::Vulkan(_) => None,
        }
    }
}

impl Nvrtc {
    /// Loads NVRTC: what the dynamic loader knows (`LD_LIBRARY_PATH`), else from `folders`, else from
    /// `default_folders()`. CUBINs are kept in `cache`; a folder that can't be used is done without.
    ///
    /// # Errors
    /// What is missing.
    pub fn load(folders: &[PathBuf], cache: Option<PathBuf>) -> Result<Nvrtc, String> {
        let names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
        let mut places = folders.to_vec();
        places.extend(folders::default_folders());
        let library = folders::load(&names, &places)?;
        let functions = functions(&library).map_err(|e| format!("NVRTC: {e}"))?;
        let mut version = (0, 0);
        // SAFETY: both are places for an int.
        let status = unsafe { (functions.version)(&mut version.0, &mut version.1) };
        if status != 0 {
            return Err(format!("NVRTC: nvrtcVersion answers {status}"));
        }
        Ok(Nvrtc { functions, version, cache, _library: library })
    }

    /// Its version: major, minor.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// The folder in which CUBINs are kept when no other is given.
    pub fn default_cache() -> Option<PathBuf> {
        Some(std::env::home_dir()?.join(".cache/rondo/cubin"))
    }

    /// Machine code of `text` for `architecture`, such as `sm_90`: from the cache if it was compiled before.
    ///
    /// # Errors
    /// What the compiler said.
    pub fn compile(&self, text: Text, architecture: &str) -> Result<Vec<u8>, Error> {
        let options = options(text.constants, architecture);
        let path = self.cache.as_ref().map(|folder| folder.join(self.key(text.text, &options) + ".cubin"));
        if let Some(kept) = path.as_deref().and_then(read_kept) {
            return Ok(kept);
        }
        let cubin = self.build(text, &options).map_err(|log| Error::Compile {
            device: format!("cuda ({architecture})"),
            source_name: text.name.into(),
            log,
        })?;
        if let Some(path) = path {
            keep(&path, &cubin);
        }
        Ok(cubin)
    }

    fn key(&self, text: &str, options: &[String]) -> String {
        let mut hasher = tensor::hash::Hasher::default();
        hasher.update(format!("nvrtc {}.{}\0{}\0", self.version.0, self.version.1, options.join("\0")).as_bytes());
        hasher.update(text.as_bytes());
        hasher.finish()
    }

    fn build(&self, text: Text, options: &[String]) -> Result<Vec<u8>, String> {
        let source = CString::new(text.text).map_err(|e| e.to_string())?;
        let name = CString::new(text.name).map_err(|e| e.to_string())?;
        let options: Vec<_> =
            options.iter().map(|o| CString::new(o.as_str())).collect::<Result<_, _>>().unwrap_or_default();
        let pointers: Vec<_> = options.iter().map(|o| o.as_ptr()).collect();
        let f = &self.functions;
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: the strings outlive the call; no headers are given.
        let status =
            unsafe { (f.create)(&mut program, source.as_ptr(), name.as_ptr(), 0, std::ptr::null(), std::ptr::null()) };
        self.check("nvrtcCreateProgram", status)?;
        // SAFETY: the program was made above, the options outlive the call.
        let status = unsafe { (f.compile)(program, pointers.len() as c_int, pointers.as_ptr()) };
        let result = if status == 0 {
            self.bytes(program, "nvrtcGetCUBIN", f.cubin_size, f.cubin)
        } else {
            let log = self.bytes(program, "nvrtcGetProgramLog", f.log_size, f.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_string();
            Err(if log.is_empty() { self.message(status) } else { log })
        };
        // SAFETY: the program was made above and is not used again.
        unsafe { (f.destroy)(&mut program) };
        result
    }

    fn bytes(
        &self,
        program: Program,
        call: &str,
        size: unsafe extern "C" fn(Program, *mut usize) -> Status,
        get: unsafe extern "C" fn(Program, *mut c_char) -> Status,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = 0;
        // SAFETY: the caller's program is alive.
        self.check(call, unsafe { size(program, &mut bytes) })?;
        let mut out = vec![0_u8; bytes];
        // SAFETY: the buffer is as large as the library asked for.
        self.check(call, unsafe { get(program, out.as_mut_ptr().cast()) })?;
        Ok(out)
    }

    fn check(&self, call: &str, status: Status) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(format!("{call}: {}", self.message(status))) }
    }

    fn message(&self, status: Status) -> String {
        // SAFETY: the answer is a static string.
        unsafe { CStr::from_ptr((self.functions.error_string)(status)) }.to_string_lossy().into_owned()
    }
}

/// What `architecture` is compiled as: with the instructions of that very chip where it has any.
pub fn target(architecture: &str) -> String {
    match architecture {
        "sm_90" | "sm_100" | "sm_103" | "sm_110" | "sm_120" | "sm_121" => format!("{architecture}a"),
        other => other.into(),
    }
}

fn options(constants: &[(&str, u32)], architecture: &str) -> Vec<String> {
    let mut options = vec![
        format!("--gpu-architecture={}", target(architecture)),
        "--std=c++17".into(),
        "--device-as-default-execution-space".into(),
    ];
    options.extend(constants.iter().map(|(name, value)| format!("-D{name}={value}")));
    options
}

fn functions(library: &Library) -> Result<Functions, libloading::Error> {
    // SAFETY: the types are those of nvrtc.h; the library is kept as long as the functions.
    unsafe {
        Ok(Functions {
            version: *library.get(b"nvrtcVersion\0")?,
            error_string: *library.get(b"nvrtcGetErrorString\0")?,
            create: *library.get(b"nvrtcCreateProgram\0")?,
            destroy: *library.get(b"nvrtcDestroyProgram\0")?,
            compile: *library.get(b"nvrtcCompileProgram\0")?,
            cubin_size: *library.get(b"nvrtcGetCUBINSize\0")?,
            cubin: *library.get(b"nvrtcGetCUBIN\0")?,
            log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
            log: *library.get(b"nvrtcGetProgramLog\0")?,
        })
    }
}

/// A kept CUBIN: its bytes, then their SHA-256 as text.
fn read_kept(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = std::fs::read(path).ok()?;
    let hash = bytes.split_off(bytes.len().checked_sub(64)?);
    (tensor::hash::sha256(&bytes).as_bytes() == hash).then_some(bytes)
}

/// Keeps a CUBIN. That it can't be kept costs time and nothing else.
fn keep(path: &Path, cubin: &[u8]) {
    // The temporary name holds the process only.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let Ok(_guard) = ONE_AT_A_TIME.lock() else { return };
    let _ = path.parent().map(std::fs::create_dir_all);
    let _ = tensor::file::atomic::write(path, &[cubin, tensor::hash::sha256(cubin).as_bytes()].concat());
}

/// Says what is wrong with a kernel's arguments, from the machine code that it was compiled to.
pub fn check_arguments(cubin: &[u8], kernel: &Kernel) -> Result<(), String> {
    let given = 8 * kernel.operands.len() as u32 + 4 * kernel.words.len() as u32;
    match cubin::parameter_bytes(cubin, kernel.entry) {
        None => Err(format!("it has no __global__ function `{}`", kernel.entry)),
        Some(taken) if taken != given => Err(format!(
            "`{}` takes {taken} bytes of parameters; {} operands and {} words are {given}",
            kernel.entry,
            kernel.operands.len(),
            kernel.words.len()
        )),
        Some(_) => Ok(()),
    }
}

/// Compiles every distinct text among `kernels` for `architecture`, with `threads` threads, and checks that each
/// kernel is there and takes the arguments that it will be given. Answers how many texts there were.
///
/// # Errors
/// The first text that doesn't compile, or the first kernel whose arguments don't fit.
pub fn compile_all<'a>(
    nvrtc: &Nvrtc,
    kernels: impl IntoIterator<Item = &'a Kernel>,
    architecture: &str,
    threads: usize,
) -> Result<usize, Error> {
    let mut texts: BTreeMap<Text, Vec<&Kernel>> = BTreeMap::new();
    for kernel in kernels {
        if let Some(text) = Text::of(kernel) {
            texts.entry(text).or_default().push(kernel);
        }
    }
    let distinct: Vec<_> = texts.keys().copied().collect();
    let cubins = compile_texts(nvrtc, &distinct, architecture, threads)?;
    for ((text, kernels), cubin) in texts.iter().zip(&cubins) {
        for kernel in kernels {
            check_arguments(cubin, kernel).map_err(|log| Error::Compile {
                device: format!("cuda ({architecture})"),
                source_name: text.name.into(),
                log,
            })?;
        }
    }
    Ok(distinct.len())
}

/// Machine code of each text for `architecture`, compiled with `threads` threads.
///
/// # Errors
/// The first text that doesn't compile.
pub fn compile_texts(nvrtc: &Nvrtc, texts: &[Text], architecture: &str, threads: usize) -> Result<Vec<Vec<u8>>, Error> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(text) = texts.get(index) else { return done };
            done.push((index, nvrtc.compile(*text, architecture)));
        }
    };
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(texts.len())).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("a compiling thread doesn't panic")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, cubin)| cubin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use graph::{CudaSource, Operand};

    static SOURCE: CudaSource = CudaSource {
        name: "scale.cu",
        text: r#"extern "C" __global__ void scale(const float* x, float* y, unsigned n, float s) {
  unsigned i = blockIdx.x * TILE + threadIdx.x;
  if (i < n) y[i] = s * x[i];
}
extern "C" __global__ void nothing() {}"#,
    };

    fn kernel(entry: &'static str, operands: usize, words: usize) -> Kernel {
        Kernel {
            source: KernelSource::Cuda(&SOURCE),
            entry,
            constants: vec![("TILE", 64)],
            groups: [1; 3],
            threads: 64,
            shared_bytes: 0,
            words: vec![0; words],
            operands: vec![Operand::Output(0); operands],
        }
    }

    #[test]
    fn compiles_keeps_and_checks() {
        let cache = std::env::temp_dir().join(format!("rondo-cubin-{}", std::process::id()));
        let nvrtc = match Nvrtc::load(&[], Some(cache.clone())) {
            Ok(nvrtc) => nvrtc,
            Err(what) => return eprintln!("skipped: {what}"),
        };
        for architecture in ["sm_80", "sm_90", "sm_120"] {
            let kernels = [kernel("scale", 2, 2), kernel("nothing", 0, 0)];
            assert_eq!(compile_all(&nvrtc, &kernels, architecture, 2).unwrap(), 1);
            for wrong in [kernel("scale", 2, 1), kernel("scale", 3, 2), kernel("nothing", 0, 1), kernel("absent", 0, 0)]
            {
                assert!(compile_all(&nvrtc, [&wrong], architecture, 1).is_err(), "{wrong:?}");
            }
        }
        let kept: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(kept.len(), 3);
        std::fs::write(&kept[0], b"spoilt").unwrap();
        assert!(read_kept(&kept[0]).is_none() && read_kept(&kept[1]).is_some());
        let bad = Text { name: "bad.cu", text: "__global__ void f() { nonsense }", constants: &[] };
        let Err(Error::Compile { log, .. }) = nvrtc.compile(bad, "sm_90") else { panic!("it compiled") };
        assert!(log.contains("nonsense"), "{log}");
        std::fs::remove_dir_all(&cache).unwrap();
    }
}
