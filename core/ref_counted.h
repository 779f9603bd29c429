// Intrusive reference counting: one allocation per object, and a pointer the size of a pointer.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace deltatape {

/// Base of objects that Ref points to. The count is atomic, so handles may be copied and dropped by any thread.
class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void retain() const noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
  /// True when this was the last reference.
  [[nodiscard]] bool release() const noexcept {
    // A sole owner needs no atomic read-modify-write: nobody else can hold or make a reference.
    return count_.load(std::memory_order_acquire) == 1 || count_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  [[nodiscard]] uint32_t use_count() const noexcept { return count_.load(std::memory_order_relaxed); }

 protected:
  ~RefCounted() = default;

 private:
  mutable std::atomic<uint32_t> count_{1};
};

/// Deletes the object when its last Ref goes; a type may overload it (autograd nodes do, to avoid deep recursion).
template <class T>
void destroy(T* object) noexcept {
  delete object;
}

/// Shared ownership of a RefCounted object.
template <class T>
class Ref {
 public:
  Ref() = default;
  /// Takes over the reference that a new object is born with.
  static Ref adopt(T* object) noexcept {
    Ref ref;
    ref.object_ = object;
    return ref;
  }
  template <class... Args>
  static Ref make(Args&&... args) {
    return adopt(new T(std::forward<Args>(args)...));
  }
  Ref(const Ref& other) noexcept : object_(other.object_) {
    if (object_ != nullptr) {
      object_->retain();
    }
  }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr && object_->release()) {
      destroy(object_);
    }
  }

  [[nodiscard]] T* get() const noexcept { return object_; }
  T* operator->() const noexcept { return object_; }
  T& operator*() const noexcept { return *object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  friend bool operator==(const Ref& a, const Ref& b) noexcept { return a.object_ == b.object_; }

 private:
  T* object_ = nullptr;
};

}  // namespace deltatape
