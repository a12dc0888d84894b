// What CUDA kernels share. No header is included: NVRTC alone compiles this.
#define erf_ erff
