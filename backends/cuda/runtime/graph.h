// Graphs: a sequence of launches and copies that is recorded once and replayed with one call, for work whose kernels
// take less time than their launches.
#pragma once

#include <functional>
#include <memory>

#include "core/device.h"

namespace deltatape::cuda {

/// Recorded work. Every replay reads and writes the memory that the recording did: tensors that existed before and are
/// written to in between are its inputs, tensors made while recording that are still there are its results.
class Graph {
 public:
  /// Runs `work`, whose launches and copies on `device` are recorded instead of done. It may not wait for the device or
  /// read from it (item, to_vector, to(cpu)): that throws Error. Numbers that it copies from the host stay what they
  /// were; so would random numbers, which uniform, normal and random_integers therefore refuse to draw (Error). Indices
  /// are looked at in every replay: one that is out of range counts as 0, and whoever waits next for the device behind
  /// the replay (synchronize, to(cpu), item), on whatever stream, gets an Error that names the first such index.
  /// Tensors that it reads or writes and has not made must live as long as the graph: their memory is not the graph's.
  /// Run the same work once in the ordinary way before, so that kernels and libraries are loaded. One recording at a
  /// time per thread; Error otherwise.
  static Graph record(Device device, const std::function<void()>& work);

  /// Puts the recorded work on the device's current stream. What it finds among its indices is told as long as the
  /// graph lives, so keep it until the replay was waited for; of several graphs whose replays one wait finds over, one
  /// Error is told. While another replay of the graph is under way nothing is: the wait for that one tells. Throws
  /// Error while this thread records on the device.
  void replay() const;

 private:
  struct Recorded;
  std::shared_ptr<Recorded> recorded_;
};

}  // namespace deltatape::cuda
