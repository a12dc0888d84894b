//! cuBLASLt: matrix products planned once, run as often as wanted.

use super::driver::Gpu;
use super::folders;
use crate::Error;
use cudarc::cublaslt::sys;
use cudarc::driver::sys::CUstream;
use graph::Gemm;
use graph::launch::Epilogue;
use std::ffi::c_void;
use std::path::PathBuf;
use std::ptr::{from_ref, null_mut};
use tensor::DType;

/// The loaded library.
pub struct Library {
    handle: sys::cublasLtHandle_t,
}

impl Library {
    /// Loads cuBLASLt and makes its handle for the current GPU; `None` when it isn't there.
    pub fn open(library_folders: &[PathBuf]) -> Option<Library> {
        let mut places = library_folders.to_vec();
        places.extend(folders::default_folders());
        // Loaded by its path once, it is found by its name from then on.
        std::mem::forget(folders::load(&["libcublasLt.so.13", "libcublasLt.so.12"], &places).ok()?);
        // SAFETY: it loads the library and lets go of it.
        if !unsafe { sys::is_culib_present() } {
            return None;
        }
        let mut handle = null_mut();
        // SAFETY: the place is for a handle.
        let made = unsafe { sys::cublasLtCreate(&mut handle) };
        (made == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS).then_some(Library { handle })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: made by `open`, and what used it is gone.
        unsafe { sys::cublasLtDestroy(self.handle) };
    }
}

/// One product with its algorithm and addresses. cuBLASLt is column-major, so d^T = op(b)^T op(a)^T is what it is asked:
/// its A is our b, its B our a.
pub struct Product {
    description: Description,
    layouts: [Layout; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
    beta: f32,
    /// b, a, d.
    addresses: [u64; 3],
    scratch: (u64, usize),
}

impl Product {
    /// Chooses the algorithm, among those that give the same bits each time.
    ///
    /// `addresses` are those of a, b, d, the scratch and the bias if there is one.
    pub fn plan(gpu: &Gpu, gemm: &Gemm, addresses: &[u64]) -> Result<Product, Error> {
        let library = gpu.library.as_ref().ok_or_else(|| gpu.mismatch("cuBLASLt is not there".into()))?;
        let [a, b, d, scratch, ref bias @ ..] = *addresses else {
            return Err(gpu.mismatch("a product has at least four operands".into()));
        };
        let (m, n, k) = (gemm.m as u64, gemm.n as u64, gemm.k as u64);
        let description = Description::new(gpu, gemm.transpose_b, gemm.transpose_a)?;
        if gemm.epilogue == Epilogue::Bias {
            let bias = bias.first().ok_or_else(|| gpu.mismatch("a product with a bias has five operands".into()))?;
            description.add_bias(gpu, *bias)?;
        }
        let [stride_a, stride_b, stride_d] = gemm.strides;
        let (rows_b, columns_b) = if gemm.transpose_b { (k, n) } else { (n, k) };
        let (rows_a, columns_a) = if gemm.transpose_a { (m, k) } else { (k, m) };
        let layouts = [
            Layout::new(gpu, gemm.dtype, [rows_b, columns_b], gemm.batch, stride_b)?,
            Layout::new(gpu, gemm.dtype, [rows_a, columns_a], gemm.batch, stride_a)?,
            Layout::new(gpu, gemm.dtype, [n, m], gemm.batch, stride_d)?,
        ];
        let addresses = [b, a, d];
        let scratch = (scratch, gemm.scratch.1 as usize);
        let algorithm = choose(gpu, library, &description, &layouts, addresses, scratch)?;
        let beta = if gemm.epilogue == Epilogue::Accumulate { 1.0 } else { 0.0 };
        Ok(Product { description, layouts, algorithm, beta, addresses, scratch })
    }

    /// Queues it.
    pub fn launch(&self, gpu: &Gpu, stream: CUstream) -> Result<(), Error> {
        let library = gpu.library.as_ref().ok_or_else(|| gpu.mismatch("cuBLASLt is not there".into()))?;
        let one = 1.0_f32;
        let [b, a, d] = self.addresses.map(|address| address as *mut c_void);
        let [layout_b, layout_a, layout_d] = self.layouts.each_ref().map(|l| l.0);
        // SAFETY: descriptions and layouts live, the planner placed the operands with these sizes, and the scalars are
        // read before the call returns (pointer mode is host).
        let status = unsafe {
            sys::cublasLtMatmul(
                library.handle,
                self.description.0,
                from_ref(&one).cast(),
                b,
                layout_b,
                a,
                layout_a,
                from_ref(&self.beta).cast(),
                d,
                layout_d,
                d,
                layout_d,
                &self.algorithm,
                self.scratch.0 as *mut c_void,
                self.scratch.1,
                stream.cast(),
            )
        };
        check(gpu, "cublasLtMatmul", status)
    }
}

/// The fastest algorithm by the library's own estimate that splits no sum in an order that may change.
fn choose(
    gpu: &Gpu,
    library: &Library,
    description: &Description,
    layouts: &[Layout; 3],
    addresses: [u64; 3],
    scratch: (u64, usize),
) -> Result<sys::cublasLtMatmulAlgo_t, Error> {
    use sys::cublasLtMatmulPreferenceAttributes_t as P;
    let preference = Preference::new(gpu)?;
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(scratch.1 as u64))?;
    // Partial sums go to the scratch and are added by a second kernel, in order; sums in place are not offered.
    let scheme = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme)?;
    let [b, a, d] = addresses.map(|address| 1_u32 << address.trailing_zeros().min(8));
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &d)?;
    preference.set(gpu, P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &d)?;
    const OFFERED: usize = 8;
    let nothing = sys::cublasLtMatmulHeuristicResult_t {
        algo: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        workspaceSize: 0,
        state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
        wavesCount: 0.0,
        reserved: [0; 4],
    };
    let mut results = [nothing; OFFERED];
    let mut count = 0;
    let [layout_b, layout_a, layout_d] = layouts.each_ref().map(|l| l.0);
    // SAFETY: all descriptions live; the count is that of the array.
    let status = unsafe {
        sys::cublasLtMatmulAlgoGetHeuristic(
            library.handle,
            description.0,
            layout_b,
            layout_a,
            layout_d,
            layout_d,
            preference.0,
            OFFERED as i32,
            results.as_mut_ptr(),
            &mut count,
        )
    };
    check(gpu, "cublasLtMatmulAlgoGetHeuristic", status)?;
    let usable = |r: &&sys::cublasLtMatmulHeuristicResult_t| {
        r.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && r.workspaceSize <= scratch.1
    };
    let best = results.iter().take(count as usize).find(usable);
    best.map(|r| r.algo).ok_or_else(|| gpu.failure("cublasLtMatmulAlgoGetHeuristic", "no algorithm is offered".into()))
}

/// What is computed.
struct Description(sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(gpu: &Gpu, transpose_first: bool, transpose_second: bool) -> Result<Self, Error> {
        use sys::cublasLtMatmulDescAttributes_t as D;
        let mut handle = null_mut();
        // f32 products and sums, never TF32.
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        // SAFETY: the place is for a handle.
        let status = unsafe { sys::cublasLtMatmulDescCreate(&mut handle, compute, sys::cudaDataType_t::CUDA_R_32F) };
        check(gpu, "cublasLtMatmulDescCreate", status)?;
        let made = Description(handle);
        made.set(gpu, D::CUBLASLT_MATMUL_DESC_TRANSA, &u32::from(transpose_first))?;
        made.set(gpu, D::CUBLASLT_MATMUL_DESC_TRANSB, &u32::from(transpose_second))?;
        Ok(made)
    }

    fn add_bias(&self, gpu: &Gpu, address: u64) -> Result<(), Error> {
        use sys::cublasLtMatmulDescAttributes_t as D;
        let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
        self.set(gpu, D::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        self.set(gpu, D::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address)
    }

    fn set<T: Copy>(&self, gpu: &Gpu, which: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<(), Error> {
        // SAFETY: the attribute is of `T`'s size, which the library checks.
        let status =
            unsafe { sys::cublasLtMatmulDescSetAttribute(self.0, which, from_ref(value).cast(), size_of::<T>()) };
        check(gpu, "cublasLtMatmulDescSetAttribute", status)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { sys::cublasLtMatmulDescDestroy(self.0) };
    }
}

/// How a matrix lies, column by column without gaps.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(gpu: &Gpu, dtype: DType, [rows, columns]: [u64; 2], batch: usize, stride: usize) -> Result<Self, Error> {
        use sys::cublasLtMatrixLayoutAttribute_t as L;
        let mut handle = null_mut();
        let kind = match dtype {
            DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            DType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            other => return Err(gpu.mismatch(format!("a library's product of {other}; it is of f32, bf16 or f16"))),
        };
        // SAFETY: the place is for a handle.
        let status = unsafe { sys::cublasLtMatrixLayoutCreate(&mut handle, kind, rows, columns, rows as i64) };
        check(gpu, "cublasLtMatrixLayoutCreate", status)?;
        let made = Layout(handle);
        if batch > 1 {
            made.set(gpu, L::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &(batch as i32))?;
            made.set(gpu, L::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &(stride as i64))?;
        }
        Ok(made)
    }

    fn set<T: Copy>(&self, gpu: &Gpu, which: sys::cublasLtMatrixLayoutAttribute_t, value: &T) -> Result<(), Error> {
        // SAFETY: the attribute is of `T`'s size, which the library checks.
        let status =
            unsafe { sys::cublasLtMatrixLayoutSetAttribute(self.0, which, from_ref(value).cast(), size_of::<T>()) };
        check(gpu, "cublasLtMatrixLayoutSetAttribute", status)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { sys::cublasLtMatrixLayoutDestroy(self.0) };
    }
}

/// Which algorithms are wanted.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(gpu: &Gpu) -> Result<Self, Error> {
        let mut handle = null_mut();
        // SAFETY: the place is for a handle.
        check(gpu, "cublasLtMatmulPreferenceCreate", unsafe { sys::cublasLtMatmulPreferenceCreate(&mut handle) })?;
        Ok(Preference(handle))
    }

    fn set<T: Copy>(
        &self,
        gpu: &Gpu,
        which: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), Error> {
        // SAFETY: the attribute is of `T`'s size, which the library checks.
        let status =
            unsafe { sys::cublasLtMatmulPreferenceSetAttribute(self.0, which, from_ref(value).cast(), size_of::<T>()) };
        check(gpu, "cublasLtMatmulPreferenceSetAttribute", status)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { sys::cublasLtMatmulPreferenceDestroy(self.0) };
    }
}

fn check(gpu: &Gpu, call: &'static str, status: sys::cublasStatus_t) -> Result<(), Error> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS {
        return Ok(());
    }
    Err(gpu.failure(call, format!("{status:?}")))
}
