// A stack of its own for each warp, on one thread (ucontext), with what the sanitizers need to know about it.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "core/error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace deltatape::cuda::tile::host {

/// Runs a function that can be left in the middle and taken up again.
class Fiber {
 public:
  explicit Fiber(std::function<void()> body) : body_(std::move(body)) {
    stack_ = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    check(stack_ != MAP_FAILED, "tile::host::Fiber", "no memory for a stack of {} bytes", kStackBytes);
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_;
    context_.uc_stack.ss_size = kStackBytes;
    context_.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(this);  // makecontext passes nothing but ints
    makecontext(&context_, reinterpret_cast<void (*)()>(&Fiber::start), 2, static_cast<unsigned>(address >> 32),
                static_cast<unsigned>(address & 0xffffffffU));
#ifdef __SANITIZE_THREAD__
    tsan_ = __tsan_create_fiber(0);
#endif
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber() {
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(tsan_);
#endif
    munmap(stack_, kStackBytes);
  }

  /// Runs it until it leaves or ends. Called from outside.
  void resume() {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack_, kStackBytes);
#endif
#ifdef __SANITIZE_THREAD__
    caller_tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(tsan_, 0);
#endif
    swapcontext(&caller_, &context_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  /// Back to whoever called resume. Called from inside.
  void leave() { go_back(false); }

  [[nodiscard]] bool ended() const { return ended_; }

 private:
  static constexpr size_t kStackBytes = size_t{1} << 20;

  static void start(unsigned high, unsigned low) {
    const uintptr_t address = (static_cast<uintptr_t>(high) << 32) | low;
    auto* const self = reinterpret_cast<Fiber*>(address);  // NOLINT(performance-no-int-to-ptr)
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &self->caller_stack_, &self->caller_bytes_);
#endif
    self->body_();
    self->ended_ = true;
    self->go_back(true);
  }

  void go_back([[maybe_unused]] bool for_good) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, caller_stack_, caller_bytes_);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(caller_tsan_, 0);
#endif
    swapcontext(&context_, &caller_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, &caller_stack_, &caller_bytes_);
#endif
  }

  std::function<void()> body_;
  void* stack_ = nullptr;
  ucontext_t context_{};
  ucontext_t caller_{};
  bool ended_ = false;
#ifdef __SANITIZE_ADDRESS__
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;
#endif
#ifdef __SANITIZE_THREAD__
  void* tsan_ = nullptr;
  void* caller_tsan_ = nullptr;
#endif
};

}  // namespace deltatape::cuda::tile::host
