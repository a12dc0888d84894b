//! GPU kernels for each element type that tensors are stored as: one CUDA text that is told the type, and a shader a type.

use graph::op::FLOATS;
use graph::{DeviceKind, Kernel, KernelSource, Launch, Shader};
use tensor::DType;

/// The kinds of device whose kernels read and write 16-bit elements themselves, for `widened`.
pub const GPUS: &[DeviceKind] = &[DeviceKind::Cuda, DeviceKind::Vulkan];

/// All kinds of device, for ops whose processor kernels do so too.
pub const EVERYWHERE: &[DeviceKind] = &[DeviceKind::Cpu, DeviceKind::Cuda, DeviceKind::Vulkan];

/// The shaders of several arrays, one after the other.
pub const fn concat<const N: usize>(arrays: &[&'static [Shader]]) -> [&'static Shader; N] {
    let mut all = [&arrays[0][0]; N];
    let (mut array, mut count) = (0, 0);
    while array < arrays.len() {
        let mut i = 0;
        while i < arrays[array].len() {
            all[count] = &arrays[array][i];
            i += 1;
            count += 1;
        }
        array += 1;
    }
    assert!(count == N);
    all
}

/// The types of a launch: what it reads, and what it writes where that is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Types {
    /// Of what is read.
    pub storage: DType,
    /// Of what is written.
    pub result: DType,
}

impl From<DType> for Types {
    fn from(dtype: DType) -> Self {
        Types { storage: dtype, result: dtype }
    }
}

/// The types of two launches that hand partial sums on as f32.
pub fn through_f32(dtype: DType) -> (Types, Types) {
    (Types { storage: dtype, result: DType::F32 }, Types { storage: DType::F32, result: dtype })
}

/// A type's number in kernels.
fn code(dtype: DType) -> usize {
    FLOATS.iter().position(|d| *d == dtype).expect("cards take f32, bf16 and f16")
}

/// The one for these types of an array that `shaders!` made.
pub fn shader(shaders: &'static [Shader], types: impl Into<Types>) -> &'static Shader {
    let Types { storage, result } = types.into();
    let (storage, result) = (code(storage), code(result));
    &shaders[if storage == result {
        storage
    } else if result == 0 {
        2 + storage
    } else {
        4 + result
    }]
}

/// The launch with its types, where CUDA's text must be told them.
pub fn typed(launch: Launch, types: impl Into<Types>) -> Launch {
    let Types { storage, result } = types.into();
    match launch {
        Launch::Kernel(mut kernel @ Kernel { source: KernelSource::Cuda(_), .. }) => {
            if storage != DType::F32 {
                kernel.constants.push(("STORAGE", code(storage) as u32));
            }
            if storage != result {
                kernel.constants.push(("RESULT", code(result) as u32));
            }
            Launch::Kernel(kernel)
        }
        other => other,
    }
}
