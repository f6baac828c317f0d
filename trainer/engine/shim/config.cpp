// What libtorch says about itself and tch does not expose.

#include "said.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cstring>
#include <string>

// Writes "VERSION\nCPU_CAPABILITY" into `out` and returns its length; writes nothing when it does not fit.
extern "C" size_t trainctl_torch_config(char *out, size_t capacity) noexcept {
  const std::string text = std::string(TORCH_VERSION) + "\n" + at::get_cpu_capability();
  if (text.size() > capacity) return text.size();
  std::memcpy(out, text.data(), text.size());
  return text.size();
}

// Of several kernels the one that always adds in the same order, and float32 products of float32's precision.
extern "C" bool trainctl_torch_deterministic(char *error, size_t capacity) noexcept {
  return trainctl::guarded({error, capacity}, [] {
    at::Context &context = at::globalContext();
    context.setDeterministicAlgorithms(true, /*warn_only=*/false);
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(true);
    context.setBenchmarkCuDNN(false);
    context.setAllowTF32CuDNN(false);
    context.setAllowTF32CuBLAS(false);
  });
}
