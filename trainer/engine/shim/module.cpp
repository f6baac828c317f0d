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
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

// As the visitor's enum has them.
enum Kind : uint8_t { kParameter = 0, kBuffer = 1, kAttribute = 2 };

// A tensor that the module holds, and where: the submodule of this number, in the order of `named_modules`.
struct Held {
  size_t owner;
  size_t slot;
  Kind kind;
  at::Tensor tensor;
  int64_t version;
};

struct Loaded {
  torch::jit::Module module;
  std::vector<torch::jit::Module> owners;
  std::vector<Held> held;
  bool training = false;

  torch::jit::ObjectPtr object(const Held &of) const { return owners[of.owner]._ivalue(); }
  std::string name(const Held &of) const { return owners[of.owner].type()->getAttributeName(of.slot); }
};

using Shared = std::unordered_map<const c10::TensorImpl *, at::Tensor>;

// The value with each of these tensors replaced by the other, wherever it lies in it: such as in the list in which a recurrent
// layer holds its weights a second time.
c10::IValue substituted(const c10::IValue &value, const Shared &shared, std::unordered_set<const void *> &seen) {
  if (value.isTensor()) {
    const auto found = shared.find(value.toTensor().unsafeGetTensorImpl());
    return found == shared.end() ? value : c10::IValue(found->second);
  }
  if (value.isTuple()) {
    std::vector<c10::IValue> elements;
    for (const c10::IValue &element : value.toTupleRef().elements()) {
      elements.push_back(substituted(element, shared, seen));
    }
    return c10::ivalue::Tuple::createNamed(std::move(elements), value.toTupleRef().type<c10::TupleType>());
  }
  if (!value.isPtrType() || !seen.insert(value.internalToPointer()).second) return value;
  if (value.isTensorList()) {
    auto list = value.toTensorList();
    for (size_t i = 0; i < list.size(); ++i) {
      list.set(i, substituted(c10::IValue(list.get(i)), shared, seen).toTensor());
    }
  } else if (value.isList()) {
    auto list = value.toList();
    for (size_t i = 0; i < list.size(); ++i) list.set(i, substituted(list.get(i), shared, seen));
  } else if (value.isGenericDict()) {
    auto dict = value.toGenericDict();
    std::vector<std::pair<c10::IValue, c10::IValue>> entries;
    for (const auto &entry : dict) entries.emplace_back(entry.key(), entry.value());
    for (const auto &[key, held] : entries) dict.insert_or_assign(key, substituted(held, shared, seen));
  } else if (value.isObject()) {
    const auto object = value.toObject();
    for (size_t slot = 0; slot < object->slots().size(); ++slot) {
      object->setSlot(slot, substituted(object->getSlot(slot), shared, seen));
    }
  }
  return value;
}

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

using Visit = void (*)(void *context, const char *name, uint8_t kind, at::Tensor *tensor);
using Take = void (*)(void *context, const void *bytes, size_t len);

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
    // Storages that are read from a file can't be resized, which a module may do with what is lazy in it.
    at::NoGradGuard no_grad;
    for (at::Tensor buffer : made->module.buffers()) buffer.set_data(buffer.clone());
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

// Shows all tensors that the module holds, with their whole names, module by module: parameters, buffers, and those that are
// neither. The tensors are the visitor's to free.
extern "C" bool trainctl_module_tensors(void *handle, Visit visit, void *context, char *error,
                                        size_t capacity) noexcept {
  auto &loaded = *static_cast<Loaded *>(handle);
  return trainctl::guarded({error, capacity}, [&] {
    loaded.held.clear();
    loaded.owners.clear();
    for (const auto &named : loaded.module.named_modules()) {
      const std::string prefix = named.name.empty() ? named.name : named.name + ".";
      const auto &type = named.value.type();
      for (size_t slot = 0; slot < type->numAttributes(); ++slot) {
        const c10::IValue value = named.value._ivalue()->getSlot(slot);
        if (!value.isTensor() || !value.toTensor().defined()) continue;
        at::Tensor tensor = value.toTensor();
        if (tensor.grad_fn()) {
          tensor = tensor.detach();
          named.value._ivalue()->setSlot(slot, tensor);
        }
        const Kind kind = type->is_parameter(slot) ? kParameter : type->is_buffer(slot) ? kBuffer : kAttribute;
        loaded.held.push_back({loaded.owners.size(), slot, kind, tensor, 0});
        visit(context, (prefix + type->getAttributeName(slot)).c_str(), kind, new at::Tensor(std::move(tensor)));
      }
      loaded.owners.push_back(named.value);
    }
  });
}

// From now on `handle`, a second module of the same file, computes with the tensors of `of`, where those were shown. What else
// it holds is its own.
extern "C" bool trainctl_module_share(void *handle, const void *of, char *error, size_t capacity) noexcept {
  auto &loaded = *static_cast<Loaded *>(handle);
  const auto &other = *static_cast<const Loaded *>(of);
  return trainctl::guarded({error, capacity}, [&] {
    loaded.owners.clear();
    for (const auto &named : loaded.module.named_modules()) loaded.owners.push_back(named.value);
    TORCH_CHECK(loaded.owners.size() == other.owners.size(), "expected two modules of one file");
    Shared shared;
    for (const Held &held : other.held) {
      const c10::IValue own = loaded.object(held)->getSlot(held.slot);
      if (own.isTensor() && own.toTensor().defined()) {
        shared.emplace(own.toTensor().unsafeGetTensorImpl(), held.tensor);
      }
      loaded.object(held)->setSlot(held.slot, held.tensor);
    }
    std::unordered_set<const void *> seen;
    substituted(loaded.module._ivalue(), shared, seen);
    loaded.held = other.held;
  });
}

// One pass. Tensors that the module replaced instead of writing to are written here, and put back in their places; with `adopt`
// one that has another shape or type then stays. What an attribute that is no buffer got of another shape is dropped: a value
// of the last batch, for whoever looks at the module.
extern "C" at::Tensor *trainctl_module_forward(void *handle, const at::Tensor *input, bool training, bool adopt,
                                               char *error, size_t capacity) noexcept {
  auto &loaded = *static_cast<Loaded *>(handle);
  at::Tensor *output = nullptr;
  trainctl::guarded({error, capacity}, [&] {
    // Per thread, unlike the settings above.
    torch::jit::GraphOptimizerEnabledGuard no_optimizer(false);
    if (loaded.training != training) {
      loaded.module.train(training);
      loaded.training = training;
    }
    for (Held &held : loaded.held) held.version = held.tensor._version();
    const c10::IValue result = loaded.module.forward({*input});
    for (Held &held : loaded.held) {
      const c10::IValue now = loaded.object(held)->getSlot(held.slot);
      if (!now.isTensor() || !now.toTensor().is_same(held.tensor)) {
        const bool alike = now.isTensor() && now.toTensor().sizes() == held.tensor.sizes() &&
                           now.toTensor().scalar_type() == held.tensor.scalar_type();
        if (adopt && !alike) continue;
        TORCH_CHECK(alike || held.kind == kAttribute,
                    "a buffer was replaced by something of another shape or type: ", loaded.name(held));
        at::NoGradGuard no_grad;
        if (alike) held.tensor.copy_(now.toTensor());
        loaded.object(held)->setSlot(held.slot, held.tensor);
      }
      // The next pass must not reach into this one's graph.
      if (held.tensor.grad_fn()) held.tensor.detach_();
    }
    TORCH_CHECK(result.isTensor(), "expected `forward` to return one tensor, found ", result.tagKind());
    output = new at::Tensor(result.toTensor());
  });
  return output;
}

// Whether the last pass wrote to the tensor of this number with an operation that says so; BatchNorm's doesn't.
extern "C" bool trainctl_module_changed(const void *handle, size_t tensor) noexcept {
  const Held &of = static_cast<const Loaded *>(handle)->held[tensor];
  return of.tensor._version() != of.version;
}

// Gives the tensor's values as bytes, row by row, wherever and however they lie.
extern "C" bool trainctl_tensor_bytes(const at::Tensor *tensor, Take take, void *context, char *error,
                                      size_t capacity) noexcept {
  return trainctl::guarded({error, capacity}, [&] {
    at::NoGradGuard no_grad;
    at::Tensor values = tensor->detach();
    if (values.is_quantized()) values = values.int_repr();
    if (values.layout() != at::kStrided) values = values.to_dense();
    values = values.resolve_conj().resolve_neg().to(at::kCPU).contiguous();
    take(context, values.const_data_ptr(), values.nbytes());
  });
}
