// Root-mean-square normalisation over the last dimension, with or without a gate, and its gradients.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/lines.h"
#include "backends/cpu/row_loop.h"
#include "backends/cpu/row_sums.h"
#include "backends/cpu/vector_loop.h"
#include "backends/elementwise_functions.h"

namespace deltatape::cpu {
namespace {

/// The gate's activation and its derivative.
template <class T>
struct Activation {
  bool silu;
  [[nodiscard]] Vec<T> operator()(Vec<T> z) const {
    const Vec<T> s = elementwise::sigmoid(z);
    return silu ? z * s : s;
  }
  /// `times` slope(z), from z and the activation's value.
  [[nodiscard]] Vec<T> backward(Vec<T> z, Vec<T> value, Vec<T> times) const {
    if (silu) {
      return elementwise::Binary<BinaryKind::silu_backward>{}(z, times);
    }
    return elementwise::Binary<BinaryKind::sigmoid_backward>{}(value, times);
  }
};

/// `weight` [D] as T; null where it is undefined.
template <class T>
class Gains {
 public:
  Gains(const Tensor& weight, int64_t length)
      : reader_(weight.defined() ? weight.dtype() : dtype_of<T>,
                weight.defined() ? byte_stride(weight, 0) : static_cast<int64_t>(sizeof(T)), length),
        data_(weight.defined() ? reader_.read(static_cast<const char*>(weight.raw())) : nullptr) {}
  Gains(const Gains&) = delete;  // data_ may point into reader_
  Gains& operator=(const Gains&) = delete;
  [[nodiscard]] const T* data() const { return data_; }

 private:
  LineReader<T> reader_;
  const T* data_;
};

int64_t lines_per_piece(int64_t length) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, length)); }

template <class T>
void forward(const Tensor& x, const Tensor& weight, const Tensor& gate, Activation<T> activation, double eps, bool sum,
             const Tensor& out, const Tensor& rstd) {
  using V = Vec<T>;
  const int last = x.rank() - 1;
  const int64_t length = x.shape()[last];
  const double divisor = sum ? 1.0 : static_cast<double>(length);
  const Gains<T> gains(weight, length);
  const T* scale = gains.data();
  const Tensor x_lines = line_starts(x, last);
  const Tensor gate_lines = gate.defined() ? line_starts(gate, last) : x_lines;
  const Tensor out_lines = line_starts(out, last);
  const RowLoop<4> loop({&out_lines, &x_lines, &gate_lines, &rstd});
  const auto steps = loop.row_strides();
  const ConvertRow store_rstd = convert_row(dtype_of<T>, rstd.dtype());
  loop.run(
      [&](const std::array<char*, 4>& at, int64_t count) {
        LineReader<T> reader(x.dtype(), byte_stride(x, last), length);
        LineReader<T> gate_reader(gate.defined() ? gate.dtype() : x.dtype(),
                                  byte_stride(gate.defined() ? gate : x, last), length);
        LineWriter<T> writer(out.dtype(), byte_stride(out, last), length);
        for (int64_t i = 0; i < count; ++i) {
          const T* row = reader.read(at[1] + i * steps[1]);
          const double squares = sum_row<T>([](V value) { return value * value; }, length, row);
          const auto factor = static_cast<T>(1.0 / std::sqrt(squares / divisor + eps));
          store_rstd(reinterpret_cast<const char*>(&factor), 0, at[3] + i * steps[3], 0, 1);
          const V factors(static_cast<double>(factor));
          T* target = writer.begin(at[0] + i * steps[0]);
          const T* z = gate.defined() ? gate_reader.read(at[2] + i * steps[2]) : nullptr;
          for_each_vector<T>(length, [&](int64_t c, auto lanes) {
            V value = lanes.load(row + c) * factors;
            value = scale == nullptr ? value : value * lanes.load(scale + c);
            value = z == nullptr ? value : value * activation(lanes.load(z + c));
            lanes.store(value, target + c);
          });
          writer.finish(at[0] + i * steps[0]);
        }
      },
      length, lines_per_piece(length));
}

/// Rows of a piece, whose share of dweight is added up in T; pieces are added in f64.
constexpr int64_t kRowsPerPiece = 64;

// With n = x rstd, u = dy act(z) and a = 1 / D (or 1): dx = rstd (u w - n (a rstd sum(u w x))), dw = sum over rows of
// u n, dz = dy n w act'(z). All tensors dense but `weight`; gradients may be undefined.
template <class T>
class Backward {
  using V = Vec<T>;

 public:
  Backward(const Tensor& x, const Tensor& weight, const Tensor& gate, Activation<T> activation, const Tensor& rstd,
           const Tensor& dy, bool sum, const Tensor& dx, const Tensor& dweight, const Tensor& dgate)
      : x_(x),
        gate_(gate),
        dy_(dy),
        dx_(dx),
        dweight_(dweight),
        dgate_(dgate),
        activation_(activation),
        rstd_(rstd.data<T>()),
        length_(x.shape().back()),
        rows_(rstd.numel()),
        average_(sum ? 1.0 : 1.0 / static_cast<double>(length_)),
        gains_(weight, length_) {}

  void run() const {
    const int64_t pieces = (rows_ + kRowsPerPiece - 1) / kRowsPerPiece;
    std::vector<T> partial(static_cast<size_t>(dweight_.defined() ? pieces * length_ : 0), T(0));
    parallel_ranges(pieces, rows_ * length_, [&](int64_t begin, int64_t end) {
      Lines lines(*this);
      for (int64_t piece = begin; piece < end; ++piece) {
        T* sums = dweight_.defined() ? partial.data() + piece * length_ : nullptr;
        for (int64_t row = piece * kRowsPerPiece; row < std::min(rows_, (piece + 1) * kRowsPerPiece); ++row) {
          lines.run(row, sums);
        }
      }
      end_of_stream();
    });
    if (dweight_.defined()) {
      store_sums(partial, pieces);
    }
  }

 private:
  // One thread's readers and writers.
  class Lines {
   public:
    explicit Lines(const Backward& call)
        : call_(call),
          x_(call.x_.dtype(), size(call.x_), call.length_),
          dy_(call.dy_.dtype(), size(call.dy_), call.length_),
          gate_(dtype_or(call.gate_), size_or(call.gate_), call.length_),
          dx_(dtype_or(call.dx_), size_or(call.dx_), call.length_, streamed(call.dx_)),
          dgate_(dtype_or(call.dgate_), size_or(call.dgate_), call.length_, streamed(call.dgate_)),
          activations_(static_cast<size_t>(call.gate_.defined() ? call.length_ : 0)),
          unwanted_(static_cast<size_t>(call.length_)) {}

    void run(int64_t row, T* sums) {
      const int64_t length = call_.length_;
      prefetch_rows(row + std::max<int64_t>(1, 512 / std::max<int64_t>(1, length)));
      const T* w = call_.gains_.data();
      const T* x = x_.read(line(call_.x_, row));
      const T* dy = dy_.read(line(call_.dy_, row));
      const T* z = call_.gate_.defined() ? gate_.read(line(call_.gate_, row)) : nullptr;
      T* act = activations_.data();
      const double dot = z == nullptr ? plain_dot(dy, w, x) : gated_dot(dy, z, w, x, act);
      const T r = call_.rstd_[row];
      const V rstd(static_cast<double>(r));
      const V slope(call_.average_ * static_cast<double>(r) * dot);
      T* dx = call_.dx_.defined() ? dx_.begin(place(call_.dx_, row)) : unwanted_.data();
      T* dz = call_.dgate_.defined() ? dgate_.begin(place(call_.dgate_, row)) : unwanted_.data();
      for_each_vector<T>(length, [&](int64_t c, auto lanes) {
        const V n = lanes.load(x + c) * rstd;
        const V upstream = lanes.load(dy + c);
        V u = upstream;
        if (z != nullptr) {
          const V value = lanes.load(act + c);
          u = u * value;
          const V normed = w == nullptr ? n : n * lanes.load(w + c);
          lanes.store(call_.activation_.backward(lanes.load(z + c), value, upstream * normed), dz + c);
        }
        if (sums != nullptr) {
          lanes.store(lanes.load(sums + c) + u * n, sums + c);
        }
        const V direct = w == nullptr ? u : u * lanes.load(w + c);
        lanes.store(rstd * (direct - n * slope), dx + c);
      });
      if (call_.dx_.defined()) {
        dx_.finish(place(call_.dx_, row));
      }
      if (call_.dgate_.defined()) {
        dgate_.finish(place(call_.dgate_, row));
      }
    }

   private:
    void prefetch_rows(int64_t row) const {
      if (row < call_.rows_) {
        for (const Tensor* input : {&call_.x_, &call_.dy_, &call_.gate_}) {
          if (input->defined()) {
            prefetch(line(*input, row), call_.length_ * size(*input));
          }
        }
      }
    }

    /// sum(dy w x).
    double plain_dot(const T* dy, const T* w, const T* x) const {
      if (w == nullptr) {
        return sum_row<T>([](V a, V b) { return a * b; }, call_.length_, dy, x);
      }
      return sum_row<T>([](V a, V b, V c) { return a * b * c; }, call_.length_, dy, w, x);
    }
    /// sum(dy act(z) w x); leaves act(z) in `act`.
    double gated_dot(const T* dy, const T* z, const T* w, const T* x, T* act) const {
      for_each_vector<T>(call_.length_,
                         [&](int64_t c, auto lanes) { lanes.store(call_.activation_(lanes.load(z + c)), act + c); });
      if (w == nullptr) {
        return sum_row<T>([](V a, V b, V c) { return a * b * c; }, call_.length_, dy, act, x);
      }
      return sum_row<T>([](V a, V b, V c, V d) { return a * b * (c * d); }, call_.length_, dy, act, w, x);
    }

    static int64_t size(const Tensor& x) { return static_cast<int64_t>(size_of(x.dtype())); }
    static bool streamed(const Tensor& x) { return x.defined() && x.numel() * size(x) >= kStreamBytes; }
    static DType dtype_or(const Tensor& x) { return x.defined() ? x.dtype() : dtype_of<T>; }
    static int64_t size_or(const Tensor& x) { return static_cast<int64_t>(size_of(dtype_or(x))); }
    [[nodiscard]] const char* line(const Tensor& x, int64_t row) const {
      return static_cast<const char*>(x.raw()) + row * call_.length_ * size(x);
    }
    [[nodiscard]] char* place(const Tensor& x, int64_t row) const {
      return static_cast<char*>(x.mutable_raw()) + row * call_.length_ * size(x);
    }

    const Backward& call_;
    LineReader<T> x_;
    LineReader<T> dy_;
    LineReader<T> gate_;
    LineWriter<T> dx_;
    LineWriter<T> dgate_;
    std::vector<T> activations_;
    std::vector<T> unwanted_;  // where a gradient goes that nobody asked for
  };

  void store_sums(const std::vector<T>& partial, int64_t pieces) const {
    const ConvertRow store = convert_row(DType::f64, dweight_.dtype());
    const auto size = static_cast<int64_t>(size_of(dweight_.dtype()));
    auto* to = static_cast<char*>(dweight_.mutable_raw());
    std::vector<double> sums(static_cast<size_t>(length_), 0.0);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const T* row = partial.data() + piece * length_;
      for (int64_t c = 0; c < length_; ++c) {
        sums[static_cast<size_t>(c)] += static_cast<double>(row[c]);
      }
    }
    store(reinterpret_cast<const char*>(sums.data()), sizeof(double), to, size, length_);
  }

  Tensor x_;
  Tensor gate_;
  Tensor dy_;
  Tensor dx_;
  Tensor dweight_;
  Tensor dgate_;
  Activation<T> activation_;
  const T* rstd_;
  int64_t length_;
  int64_t rows_;
  double average_;
  Gains<T> gains_;
};

}  // namespace

void CpuBackend::rms_norm(const Tensor& x, const Tensor& weight, double eps, bool sum, const Tensor& out,
                          const Tensor& rstd) const {
  if (rstd.numel() == 0) {
    return;
  }
  if (x.dtype() == DType::f64) {
    forward<double>(x, weight, Tensor(), {false}, eps, sum, out, rstd);
  } else {
    forward<float>(x, weight, Tensor(), {false}, eps, sum, out, rstd);
  }
}

void CpuBackend::rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& rstd, const Tensor& dy,
                                   bool sum, const Tensor& dx, const Tensor& dweight) const {
  if (x.dtype() == DType::f64) {
    Backward<double>(x, weight, Tensor(), {false}, rstd, dy, sum, dx, dweight, Tensor()).run();
  } else {
    Backward<float>(x, weight, Tensor(), {false}, rstd, dy, sum, dx, dweight, Tensor()).run();
  }
}

void CpuBackend::gated_rms_norm(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu, double eps,
                                const Tensor& out, const Tensor& rstd) const {
  if (rstd.numel() == 0) {
    return;
  }
  if (x.dtype() == DType::f64) {
    forward<double>(x, weight, gate, {silu}, eps, false, out, rstd);
  } else {
    forward<float>(x, weight, gate, {silu}, eps, false, out, rstd);
  }
}

void CpuBackend::gated_rms_norm_backward(const Tensor& x, const Tensor& weight, const Tensor& gate, bool silu,
                                         const Tensor& rstd, const Tensor& dy, const Tensor& dx, const Tensor& dweight,
                                         const Tensor& dgate) const {
  if (x.dtype() == DType::f64) {
    Backward<double>(x, weight, gate, {silu}, rstd, dy, false, dx, dweight, dgate).run();
  } else {
    Backward<float>(x, weight, gate, {silu}, rstd, dy, false, dx, dweight, dgate).run();
  }
}

}  // namespace deltatape::cpu
