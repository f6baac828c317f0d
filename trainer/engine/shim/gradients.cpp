// Moves each parameter's gradient into the caller's vector the moment autograd has accumulated it, and says from which
// element on the vector is final.

#include "said.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <ATen/ATen.h>

#include <cstring>
#include <memory>
#include <thread>
#include <vector>

namespace {

using Ready = void (*)(void *context, size_t from);

struct Place {
  size_t offset;
  size_t padded_len;
  bool final;
};

// One backward pass at a time. Between two, `out` is null and gradients are dropped.
struct Sink {
  std::vector<Place> places;
  // All places from this one on are final.
  size_t final_from = 0;
  float *out = nullptr;
  // Instead of `out`: a flat vector that need not be the host's.
  at::Tensor elsewhere;
  Ready ready = nullptr;
  void *context = nullptr;
  // Graphs on a GPU run on a thread of autograd's own, from which nothing is said.
  std::thread::id caller;

  void take(size_t index, const at::Tensor &leaf) {
    // Moved out, so that the memory goes back at once and nothing is left for the next pass to add to.
    const at::Tensor gradient = std::move(leaf.mutable_grad());
    leaf.mutable_grad() = at::Tensor();
    if (out == nullptr && !elsewhere.defined()) return;
    TORCH_CHECK(gradient.layout() == at::kStrided && gradient.scalar_type() == at::kFloat,
                "expected a dense float32 gradient, found ", gradient.layout(), " ", gradient.scalar_type());
    Place &place = places[index];
    const size_t len = static_cast<size_t>(leaf.numel());
    if (elsewhere.defined()) {
      at::NoGradGuard no_grad;
      elsewhere.narrow(0, place.offset, len).view(gradient.sizes()).copy_(gradient);
      zero(place, len);
      finish(place);
      return;
    }
    float *into = out + place.offset;
    if (gradient.is_cpu() && gradient.is_contiguous()) {
      std::memcpy(into, gradient.const_data_ptr<float>(), len * sizeof(float));
    } else {
      at::NoGradGuard no_grad;
      at::from_blob(into, gradient.sizes(), at::kFloat).copy_(gradient);
    }
    zero(place, len);
    finish(place);
  }

  // From this element of a place on.
  void zero(const Place &place, size_t from) {
    if (from == place.padded_len) return;
    if (elsewhere.defined()) {
      elsewhere.narrow(0, place.offset + from, place.padded_len - from).zero_();
    } else {
      std::memset(out + place.offset + from, 0, (place.padded_len - from) * sizeof(float));
    }
  }

  void finish(Place &place) {
    place.final = true;
    if (std::this_thread::get_id() != caller) return;
    const size_t before = final_from;
    while (final_from > 0 && places[final_from - 1].final) --final_from;
    if (final_from < before) ready(context, places[final_from].offset);
  }

  // Parameters that the loss does not depend on get no gradient: theirs is zero.
  void finish_rest() {
    for (size_t i = final_from; i-- > 0;) {
      Place &place = places[i];
      if (!place.final) zero(place, 0);
      finish(place);
    }
  }
};

struct Hook final : torch::autograd::PostAccumulateGradHook {
  Hook(std::shared_ptr<Sink> sink, size_t index) : sink(std::move(sink)), index(index) {}
  void operator()(const torch::autograd::Variable &leaf) override { sink->take(index, leaf); }

  std::shared_ptr<Sink> sink;
  size_t index;
};

}  // namespace

// Hooks the leaves, whose gradients go to `offsets`; each place is zero from its tensor's length to its `padded_len`.
extern "C" void *trainctl_gradients_new(at::Tensor *const *leaves, const size_t *offsets, const size_t *padded_lens,
                                        size_t count, char *error, size_t capacity) noexcept {
  std::shared_ptr<Sink> *handle = nullptr;
  trainctl::guarded({error, capacity}, [&] {
    auto sink = std::make_shared<Sink>();
    for (size_t i = 0; i < count; ++i) sink->places.push_back({offsets[i], padded_lens[i], false});
    for (size_t i = 0; i < count; ++i) {
      torch::autograd::impl::set_post_acc_grad_hooks(*leaves[i], std::make_unique<Hook>(sink, i));
    }
    handle = new std::shared_ptr<Sink>(std::move(sink));
  });
  return handle;
}

extern "C" void trainctl_gradients_free(void *handle) noexcept {
  delete static_cast<std::shared_ptr<Sink> *>(handle);
}

// The backward pass from `loss`, into `out` or, where that is null, `elsewhere`. `ready` runs on the calling thread, during
// the pass of a CPU's graph and after a GPU's, and must not throw.
extern "C" bool trainctl_gradients_backward(void *handle, const at::Tensor *loss, float *out,
                                            const at::Tensor *elsewhere, Ready ready, void *context, char *error,
                                            size_t capacity) noexcept {
  Sink &sink = **static_cast<std::shared_ptr<Sink> *>(handle);
  for (Place &place : sink.places) place.final = false;
  sink.final_from = sink.places.size();
  sink.ready = ready;
  sink.context = context;
  sink.caller = std::this_thread::get_id();
  sink.out = out;
  if (out == nullptr) sink.elsewhere = *elsewhere;
  const bool done = trainctl::guarded({error, capacity}, [&] {
    torch::autograd::backward({*loss});
    sink.finish_rest();
  });
  sink.out = nullptr;
  sink.elsewhere = at::Tensor();
  return done;
}
