// How the shim says what libtorch threw: no exception may leave a function that Rust calls.

#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

namespace trainctl {

struct Said {
  char *out;
  size_t capacity;

  void operator()(const char *text) const noexcept {
    if (capacity == 0) return;
    std::strncpy(out, text, capacity - 1);
    out[capacity - 1] = '\0';
  }
};

// Runs `body`; false when it threw, with the reason in `said`.
template <typename Body>
bool guarded(Said said, Body body) noexcept {
  try {
    body();
    return true;
  } catch (const c10::Error &error) {
    said(error.what_without_backtrace());
  } catch (const std::exception &error) {
    said(error.what());
  } catch (...) {
    said("an exception of an unknown type");
  }
  return false;
}

}  // namespace trainctl
