//! Which libtorch, and what of its wheels is needed. The wheels are those of the Python package index; the CUDA ones
//! are there because the CPU library is linked against two of CUDA's, which it doesn't call without a GPU.

/// What `tch` is written for.
pub(crate) const VERSION: &str = "2.13.0";

/// One file of the package index.
pub(crate) struct Wheel {
    /// The project that it belongs to.
    pub(crate) project: &'static str,
    /// The project's version.
    pub(crate) version: &'static str,
    /// Of the file.
    pub(crate) filename: &'static str,
    /// Of the file, 64 hex digits.
    pub(crate) sha256: &'static str,
    /// `FROM=TO` for one file, `FROM/=TO/` for all below a folder.
    pub(crate) rules: &'static [&'static str],
}

/// All that libtorch's CPU part is made of.
pub(crate) const WHEELS: &[Wheel] = &[
    Wheel {
        project: "torch",
        version: VERSION,
        filename: "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl",
        sha256: "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        rules: &[
            "torch/include/=include/",
            "torch/lib/libc10.so=lib/libc10.so",
            "torch/lib/libtorch_cpu.so=lib/libtorch_cpu.so",
            "torch/lib/libgomp.so.1=lib/libgomp.so.1",
        ],
    },
    Wheel {
        project: "nvidia-cuda-runtime",
        version: "13.5.37",
        filename: "nvidia_cuda_runtime-13.5.37-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256: "df2b79a8852f10d1fef8c848489c49eebb5754051bf870202a862831412b179d",
        rules: &["nvidia/cu13/lib/libcudart.so.13=lib/libcudart.so.13"],
    },
    Wheel {
        project: "nvidia-cuda-cupti",
        version: "13.5.25",
        filename: "nvidia_cuda_cupti-13.5.25-py3-none-manylinux_2_25_x86_64.whl",
        sha256: "9dcca41c12a734192b14e7128ae116bc9ce1b9da686e2ebf48ae7a4415f76650",
        rules: &["nvidia/cu13/lib/libcupti.so.13=lib/libcupti.so.13"],
    },
];

/// The library that linkers ask for by name; the CPU part is all of it.
pub(crate) const LINKER_SCRIPT: (&str, &str) = ("lib/libtorch.so", "INPUT(libtorch_cpu.so)\n");

/// Files whose presence and size say that a layout is whole.
pub(crate) const LIBRARIES: &[&str] = &[
    "lib/libc10.so",
    "lib/libtorch_cpu.so",
    "lib/libgomp.so.1",
    "lib/libcudart.so.13",
    "lib/libcupti.so.13",
    "lib/libtorch.so",
    "include/torch/csrc/api/include/torch/torch.h",
];
