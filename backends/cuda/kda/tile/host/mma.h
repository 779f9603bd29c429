// The host twin of device/mma.h: the instructions on the registers of all lanes, by the lane maps of the PTX manual.
#pragma once

#include "backends/cuda/kda/tile/host/shared_memory.h"
#include "backends/cuda/kda/tile/lanes.h"
#include "backends/cuda/kda/tile/target.h"

namespace deltatape::cuda::tile {
namespace host {

/// d[16,8] += a[16,k] b[k,8], each product exact, summed in f32 in the order of k.
template <int k>
void multiply(float (&d)[16][8], const float (&a)[16][k], const float (&b)[k][8]) {
  for (int i = 0; i < 16; ++i) {
    for (int l = 0; l < k; ++l) {
      for (int j = 0; j < 8; ++j) {
        d[i][j] += a[i][l] * b[l][j];
      }
    }
  }
}

/// D and C of m16n8: registers 0 and 1 hold row lane / 4, 2 and 3 the row 8 further down.
template <class F>
void each_of_m16n8(F&& f) {
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < 4; ++i) {
      f(lane, i, lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
    }
  }
}

}  // namespace host

template <int half>
void mma_m16n8k16(PerLane<float, 8>& d, const PerLane<uint32_t, 4>& a, const PerLane<uint32_t, 4>& b) {
  host::Machine::get().check_whole_warp("mma");
  float c[16][8];
  float left[16][16];
  float right[16][8];
  host::each_of_m16n8([&](int lane, int i, int row, int col) { c[row][col] = d(lane, 4 * half + i); });
  for (int lane = 0; lane < kLanes; ++lane) {
    const int group = lane / 4;
    const int place = lane % 4 * 2;
    for (int r = 0; r < 4; ++r) {
      left[group + r % 2 * 8][place + r / 2 * 8] = low_bf16(a(lane, r));
      left[group + r % 2 * 8][place + r / 2 * 8 + 1] = high_bf16(a(lane, r));
    }
    for (int r = 0; r < 2; ++r) {
      right[place + r * 8][group] = low_bf16(b(lane, 2 * half + r));
      right[place + r * 8 + 1][group] = high_bf16(b(lane, 2 * half + r));
    }
  }
  host::multiply(c, left, right);
  host::each_of_m16n8([&](int lane, int i, int row, int col) { d(lane, 4 * half + i) = c[row][col]; });
}

template <int step, int half>
void mma_m16n8k8(PerLane<float, 8>& d, const PerLane<uint32_t, 8>& a, const PerLane<uint32_t, 8>& b) {
  host::Machine::get().check_whole_warp("mma");
  float c[16][8];
  float left[16][8];
  float right[8][8];
  host::each_of_m16n8([&](int lane, int i, int row, int col) { c[row][col] = d(lane, 4 * half + i); });
  const auto tf32 = [](uint32_t bits) { return std::bit_cast<float>(bits & 0xffffe000U); };
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      left[lane / 4 + r % 2 * 8][lane % 4 + r / 2 * 4] = tf32(a(lane, 4 * step + r));
    }
    for (int r = 0; r < 2; ++r) {
      right[lane % 4 + r * 4][lane / 4] = tf32(b(lane, 4 * step + 2 * half + r));
    }
  }
  host::multiply(c, left, right);
  host::each_of_m16n8([&](int lane, int i, int row, int col) { d(lane, 4 * half + i) = c[row][col]; });
}

template <bool trans, class Address>
void ldmatrix(PerLane<uint32_t, 4>& x, Address&& address) {
  host::Machine& machine = host::Machine::get();
  machine.check_whole_warp("ldmatrix");
  uint16_t matrix[4][8][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const int from = address(lane).byte();
    check(from % 16 == 0, "tile",
          "ldmatrix: the address of lane {} is byte {} of shared memory, expected a multiple of 16", lane, from);
    machine.shared.read(machine.actor(), from, 16, 2, matrix[lane / 8][lane % 8]);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int m = 0; m < 4; ++m) {
      const int row = lane / 4;
      const int col = lane % 4 * 2;
      const uint32_t low = trans ? matrix[m][col][row] : matrix[m][row][col];
      const uint32_t high = trans ? matrix[m][col + 1][row] : matrix[m][row][col + 1];
      x(lane, m) = low | (high << 16);
    }
  }
}

}  // namespace deltatape::cuda::tile
