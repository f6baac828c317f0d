// A TorchScript module, run without the JIT's profiling and optimisation: those change the kernels, and with them the
// bits, between a graph's first runs and its later ones.

#include "said.h"

#include <caffe2/serialize/read_adapter_interface.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

namespace {

struct Buffer {
  torch::jit::Module owner;
  size_t slot;
  at::Tensor tensor;
  int64_t version;
};

struct Loaded {
  torch::jit::Module module;
  std::vector<Buffer> buffers;
  bool training = false;
};

class Bytes final : public caffe2::serialize::ReadAdapterInterface {
 public:
  Bytes(const char *bytes, size_t len) : bytes_(bytes), len_(len) {}
  size_t size() const override { return len_; }
  size_t read(uint64_t pos, void *buf, size_t n, const char *what) const override {
    TORCH_CHECK(pos <= len_ && n <= len_ - pos, "the file ends within ", what);
    std::memcpy(buf, bytes_ + pos, n);
    return n;
  }

 private:
  const char *bytes_;
  size_t len_;
};

using Visit = void (*)(void *context, const char *name, bool is_parameter, at::Tensor *tensor);

}  // namespace

extern "C" void *trainctl_module_load(const char *bytes, size_t len, char *error, size_t capacity) noexcept {
  Loaded *loaded = nullptr;
  trainctl::guarded({error, capacity}, [&] {
    torch::jit::getProfilingMode() = false;
    torch::jit::getExecutorMode() = false;
    torch::jit::setTensorExprFuserEnabled(false);
    auto made = std::make_unique<Loaded>();
    made->module = torch::jit::load(std::make_shared<Bytes>(bytes, len), at::Device(at::kCPU));
    made->module.train(false);
    loaded = made.release();
  });
  return loaded;
}

extern "C" void trainctl_module_free(void *handle) noexcept { delete static_cast<Loaded *>(handle); }

extern "C" bool trainctl_module_save(const void *handle, const char *path, char *error, size_t capacity) noexcept {
  return trainctl::guarded({error, capacity}, [&] { static_cast<const Loaded *>(handle)->module.save(path); });
}

// Moves parameters and buffers to the GPU of this number; who holds one of these tensors holds the moved one.
extern "C" bool trainctl_module_to_cuda(void *handle, int8_t number, char *error, size_t capacity) noexcept {
  return trainctl::guarded({error, capacity}, [&] {
    static_cast<Loaded *>(handle)->module.to(at::Device(at::kCUDA, number));
  });
}

// Shows all parameters and buffers with their whole names, module by module. The tensors are the visitor's to free.
extern "C" bool trainctl_module_tensors(void *handle, Visit visit, void *context, char *error,
                                        size_t capacity) noexcept {
  auto &loaded = *static_cast<Loaded *>(handle);
  return trainctl::guarded({error, capacity}, [&] {
    loaded.buffers.clear();
    for (const auto &owner : loaded.module.named_modules()) {
      const std::string prefix = owner.name.empty() ? owner.name : owner.name + ".";
      for (const auto &parameter : owner.value.named_parameters(false)) {
        visit(context, (prefix + parameter.name).c_str(), true, new at::Tensor(parameter.value));
      }
      for (const auto &buffer : owner.value.named_buffers(false)) {
        const size_t slot = owner.value.type()->getAttributeSlot(buffer.name);
        loaded.buffers.push_back({owner.value, slot, buffer.value, 0});
        visit(context, (prefix + buffer.name).c_str(), false, new at::Tensor(buffer.value));
      }
    }
  });
}

// One pass. Buffers that the module replaced instead of writing to are written here, and put back in their places.
extern "C" at::Tensor *trainctl_module_forward(void *handle, const at::Tensor *input, bool training, char *error,
                                               size_t capacity) noexcept {
  auto &loaded = *static_cast<Loaded *>(handle);
  at::Tensor *output = nullptr;
  trainctl::guarded({error, capacity}, [&] {
    // Per thread, unlike the settings above.
    torch::jit::GraphOptimizerEnabledGuard no_optimizer(false);
    if (loaded.training != training) {
      loaded.module.train(training);
      loaded.training = training;
    }
    for (Buffer &buffer : loaded.buffers) buffer.version = buffer.tensor._version();
    const c10::IValue result = loaded.module.forward({*input});
    for (Buffer &buffer : loaded.buffers) {
      const c10::IValue held = buffer.owner._ivalue()->getSlot(buffer.slot);
      if (held.isTensor() && held.toTensor().is_same(buffer.tensor)) continue;
      TORCH_CHECK(held.isTensor() && held.toTensor().sizes() == buffer.tensor.sizes() &&
                      held.toTensor().scalar_type() == buffer.tensor.scalar_type(),
                  "a buffer was replaced by something of another shape or type: ", buffer.owner.type()->getAttributeName(buffer.slot));
      at::NoGradGuard no_grad;
      buffer.tensor.copy_(held.toTensor());
      buffer.owner._ivalue()->setSlot(buffer.slot, buffer.tensor);
    }
    TORCH_CHECK(result.isTensor(), "expected `forward` to return one tensor, found ", result.tagKind());
    output = new at::Tensor(result.toTensor());
  });
  return output;
}

// Whether the last pass wrote to the buffer of this number with an operation that says so; BatchNorm's doesn't.
extern "C" bool trainctl_module_changed(const void *handle, size_t buffer) noexcept {
  const Buffer &of = static_cast<const Loaded *>(handle)->buffers[buffer];
  return of.tensor._version() != of.version;
}
