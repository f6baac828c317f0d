// What libtorch says about itself and tch does not expose.

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
