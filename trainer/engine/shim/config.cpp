// What libtorch says about itself and tch does not expose, and how memory is had.

#include "said.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#ifdef __GLIBC__
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

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

// What is freed stays in the heap. With `huge_pages` it grows once, by addresses alone, to half of the machine's memory,
// and is advised while it is empty; that is glibc's first arena, the main thread's. Elsewhere than on glibc nothing
// changes.
extern "C" void trainctl_torch_keep_memory(bool huge_pages) noexcept {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, -1);
  if (!huge_pages) return;
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t length = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) / 2 * page;
  if (void *heap = std::malloc(length)) {
    const auto begin = (reinterpret_cast<uintptr_t>(heap) + page - 1) & ~(page - 1);
    madvise(reinterpret_cast<void *>(begin), length - page, MADV_HUGEPAGE);
    std::free(heap);
  }
#endif
}
