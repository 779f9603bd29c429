// What parent and child say to each other over their socket: four messages of fixed size. Tensors are elsewhere, in
// shared memory. The parent believes nothing that the child says: sizes are fixed here, text is cut and cleaned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "harness/plugin/deltatape_plugin.h"

namespace deltatape::harness::plugin {

/// Descriptors that the child starts with.
inline constexpr int kControlDescriptor = 3;
inline constexpr int kMemoryDescriptor = 4;

/// Set in the child's environment: a program that is no worker does not start workers of its own.
inline constexpr const char* kWorkerVariable = "DELTATAPE_PLUGIN_WORKER";

/// Of the child, when its descriptors to the parent are gone.
inline constexpr int kLostParent = 113;

/// First word of every message; another one for another layout of messages.
inline constexpr uint64_t kMagic = 0x6474'706c'7567'0002;

inline constexpr size_t kNameBytes = 24;
inline constexpr size_t kMessageBytes = 512;
inline constexpr size_t kMostTensors = 48;

/// Child: I am a worker, now I load.
struct Started {
  uint64_t magic = kMagic;
};

/// How loading went.
enum class Load : int32_t {
  fine,
  not_loadable,      // text: why
  missing_function,  // text: its name
  other_version,     // version
  no_results,        // deltatape_plugin_results gave no text
  long_results,      // or one that does not fit `results`
  unknown_device,    // text: the name
  device_not_there,  // text: why
};

/// Child: loaded, or not.
struct Loaded {
  uint64_t magic = kMagic;
  Load load = Load::fine;
  int32_t version = 0;
  int32_t on_device = 0;  // it wants device pointers
  std::array<char, kMessageBytes> text{};
  std::array<char, kMessageBytes> results{};
  std::array<char, 64> name{};
};

/// A tensor in shared memory.
struct Place {
  std::array<char, kNameBytes> name{};
  int32_t dtype = 0;
  int32_t rank = 0;
  std::array<int64_t, 8> shape{};
  uint64_t offset = 0;
};

/// Parent: run this.
struct Call {
  uint64_t magic = kMagic;
  uint64_t number = 0;                       // the answer repeats it
  uint64_t memory_bytes = 0;                 // of the shared memory
  uint64_t used_bytes = 0;                   // of this call, at its start; the rest is not to be touched
  deltatape_kda_call call{};                 // without pointers
  std::array<Place, kMostTensors> places{};  // first the inputs, then the results
};

/// How a call went.
enum class Outcome : int32_t {
  returned,  // status and text are the plugin's
  broken,    // text: what is wrong, in the worker's words
};

/// Child: done.
struct Reply {
  uint64_t magic = kMagic;
  uint64_t number = 0;
  Outcome outcome = Outcome::returned;
  int32_t status = 0;
  std::array<char, kMessageBytes> text{};
};

/// Copies text into a message, cut to fit, with a final zero.
template <size_t N>
void put_text(std::array<char, N>& field, const std::string& text) {
  const size_t length = text.size() < N ? text.size() : N - 1;
  text.copy(field.data(), length);
  field[length] = '\0';
}

/// Text of somebody else's: up to its final zero or the end of the field, at most `most` characters, blanks for line
/// breaks and tabs, question marks for what is not printable ASCII.
std::string printable(const char* text, size_t size, size_t most = 500);
template <size_t N>
std::string printable(const std::array<char, N>& field) {
  return printable(field.data(), field.size());
}

/// Sends one message without ever waiting or raising SIGPIPE; false when it did not go.
bool send_message(int descriptor, const void* message, size_t size);

enum class Received : uint8_t { message, nothing, closed };
/// The next message if one of exactly this size has come. `closed`: the other end is gone, or speaks otherwise.
Received receive_message(int descriptor, void* message, size_t size, bool wait);

}  // namespace deltatape::harness::plugin
