// A file descriptor with one owner.
#pragma once

#include <unistd.h>

#include <utility>

namespace deltatape::harness::plugin {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      reset();
      number_ = std::exchange(other.number_, -1);
    }
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const { return number_; }

 private:
  void reset() {
    if (number_ >= 0) {
      ::close(number_);
      number_ = -1;
    }
  }
  int number_ = -1;
};

}  // namespace deltatape::harness::plugin
