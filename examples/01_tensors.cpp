// Tensors: making them, computing with them, looking at them.
#include <iostream>

#include "deltatape.h"

using namespace deltatape;

int main() {
  // From numbers. The shape is the second argument; elements are in row-major order.
  const Tensor a = from_vector<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  std::cout << "a =\n" << a << "\n";

  // Operators and functions make new tensors. Shapes broadcast as in NumPy, dtypes promote as in PyTorch.
  const Tensor column = from_vector<float>({10, 20}, {2, 1});
  std::cout << "a * 2 + column =\n" << a * 2.0 + column << "\n";
  std::cout << "exp(a) summed over columns =\n" << sum(exp(a), {1}) << "\n";
  std::cout << "a a' =\n" << matmul(a, transpose(a, 0, 1)) << "\n";

  // Indexing gives views: they share the memory of the tensor they come from.
  Tensor row = a[1];
  fill_(row, 0.0);
  std::cout << "a after its second row was set to 0 =\n" << a << "\n";
  std::cout << "a[:, 1:] =\n" << slice(a, 1, {.start = 1}) << "\n";

  // Random numbers come from a generator that you hold: the same seed gives the same numbers.
  Generator generator(42);
  std::cout << "normal numbers =\n" << randn({2, 2}, generator) << "\n";

  // Mistakes are sentences.
  try {
    add(a, from_vector<float>({1, 2}));
  } catch (const Error& error) {
    std::cout << "an error: " << error.what() << "\n";
  }
}
