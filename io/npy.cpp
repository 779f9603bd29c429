#include "io/npy.h"

#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>
#include <vector>

#include "io/elements.h"
#include "io/file.h"
#include "io/npy_bytes.h"

namespace deltatape::io {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian, and so is memory");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr int64_t kMaxHeaderBytes = 65536;
constexpr std::string_view kLoad = "load_npy";

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// The header is a Python dict literal with the keys descr, fortran_order and shape. This reads that and nothing else.
class HeaderParser {
 public:
  HeaderParser(std::string text, const std::string& file) : text_(std::move(text)), rest_(text_), file_(file) {}

  NpyHeader parse() {
    NpyHeader header;
    bool have_descr = false;
    bool have_order = false;
    bool have_shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !have_descr) {
        header.descr = quoted();
        have_descr = true;
      } else if (key == "fortran_order" && !have_order) {
        header.fortran_order = boolean();
        have_order = true;
      } else if (key == "shape" && !have_shape) {
        header.shape = tuple();
        have_shape = true;
      } else {
        fail(kLoad, "{}: the header has the key '{}', expected descr, fortran_order and shape once each", file_, key);
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    check(rest_.empty(), kLoad, "{}: the header goes on with '{}', expected its end", file_, excerpt());
    check(have_descr && have_order && have_shape, kLoad, "{}: the header lacks one of descr, fortran_order and shape",
          file_);
    return header;
  }

 private:
  void skip_blanks() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n' || rest_.front() == '\t')) {
      rest_.remove_prefix(1);
    }
  }
  bool accept(char c) {
    skip_blanks();
    if (rest_.empty() || rest_.front() != c) {
      return false;
    }
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    check(accept(c), kLoad, "{}: the header has '{}' where '{}' is expected", file_, excerpt(), c);
  }
  std::string quoted() {
    skip_blanks();
    const char quote = rest_.empty() ? ' ' : rest_.front();
    check(quote == '\'' || quote == '"', kLoad, "{}: the header has '{}' where a quoted word is expected", file_,
          excerpt());
    const size_t end = rest_.find(quote, 1);
    check(end != std::string_view::npos, kLoad, "{}: the header has an unfinished word '{}'", file_, excerpt());
    std::string word(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return word;
  }
  bool boolean() {
    skip_blanks();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (rest_.substr(0, word.size()) == word) {
        rest_.remove_prefix(word.size());
        return value;
      }
    }
    fail(kLoad, "{}: fortran_order is '{}', expected True or False", file_, excerpt());
  }
  std::vector<int64_t> tuple() {
    std::vector<int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      skip_blanks();
      int64_t size = 0;
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), size);
      check(error == std::errc() && size >= 0, kLoad, "{}: the shape has '{}', expected a size of 0 or more", file_,
            excerpt());
      rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
      sizes.push_back(size);
      check(sizes.size() <= static_cast<size_t>(kMaxRank), kLoad, "{}: the shape has more than {} dimensions", file_,
            kMaxRank);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }
  // What follows, short and printable.
  [[nodiscard]] std::string excerpt() const {
    std::string text;
    for (const char c : rest_.substr(0, 16)) {
      text += c >= ' ' && c <= '~' ? c : '?';
    }
    return text;
  }

  std::string text_;
  std::string_view rest_;
  const std::string& file_;
};

// How an element type of a file becomes a dtype: as it is, or each element widened to i64.
struct ElementType {
  DType dtype = DType::f32;
  size_t bytes = 0;
  char widen = '\0';  // 'i' or 'u' when elements of `bytes` bytes are widened
};

ElementType element_type(const std::string& descr, const std::string& file) {
  check(descr.empty() || descr[0] != '>', kLoad, "{}: the elements are '{}' (big-endian), expected little-endian", file,
        descr);
  const bool prefixed = descr.size() == 3 && (descr[0] == '<' || descr[0] == '|' || descr[0] == '=');
  const std::string_view name = prefixed ? std::string_view(descr).substr(1) : std::string_view(descr);
  if (name == "f8") return {DType::f64, 8};
  if (name == "f4") return {DType::f32, 4};
  if (name == "f2") return {DType::f16, 2};
  if (name == "i8") return {DType::i64, 8};
  if (name == "i4") return {DType::i32, 4};
  if (name == "b1") return {DType::boolean, 1};
  if (name == "i1" || name == "i2" || name == "u1" || name == "u2" || name == "u4") {
    return {DType::i64, static_cast<size_t>(name[1] - '0'), name[0]};
  }
  fail(kLoad, "{}: the elements are '{}', expected one of f8 f4 f2 i8 i4 i2 i1 u4 u2 u1 b1", file, descr);
}

// NOLINTBEGIN(bugprone-signed-char-misuse): i1 holds numbers, not characters.
template <class From>
void widen_as(const std::string& bytes, int64_t* to) {
  const size_t count = bytes.size() / sizeof(From);
  for (size_t i = 0; i < count; ++i) {
    From value;
    std::char_traits<char>::copy(reinterpret_cast<char*>(&value), bytes.data() + i * sizeof(From), sizeof(From));
    to[i] = static_cast<int64_t>(value);
  }
}
// NOLINTEND(bugprone-signed-char-misuse)

void widen(const ElementType& type, const std::string& bytes, int64_t* to) {
  if (type.widen == 'u') {
    if (type.bytes == 1) return widen_as<uint8_t>(bytes, to);
    if (type.bytes == 2) return widen_as<uint16_t>(bytes, to);
    return widen_as<uint32_t>(bytes, to);
  }
  if (type.bytes == 1) return widen_as<int8_t>(bytes, to);
  return widen_as<int16_t>(bytes, to);
}

std::string read_header(ByteReader& reader) {
  const std::string& file = reader.name();
  const std::string magic = reader.read_string(8, "magic number and version");
  check(std::string_view(magic).substr(0, 6) == kMagic, kLoad,
        "{} does not start with NPY's magic number, expected a .npy file", file);
  const int major = static_cast<unsigned char>(magic[6]);
  const int minor = static_cast<unsigned char>(magic[7]);
  check(major >= 1 && major <= 3 && minor == 0, kLoad, "{} has NPY version {}.{}, expected 1.0, 2.0 or 3.0", file,
        major, minor);
  std::array<unsigned char, 4> length_bytes{};
  reader.read(length_bytes.data(), major == 1 ? 2 : 4, "header length");
  int64_t length = 0;
  for (size_t i = 0; i < 4; ++i) {
    length |= static_cast<int64_t>(length_bytes[i]) << (8 * i);
  }
  check(length <= kMaxHeaderBytes, kLoad, "{} has a header of {} bytes, expected at most {}", file, length,
        kMaxHeaderBytes);
  return reader.read_string(length, "header");
}

std::optional<std::string_view> descr_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "<f8";
    case DType::f32:
      return "<f4";
    case DType::f16:
      return "<f2";
    case DType::i64:
      return "<i8";
    case DType::i32:
      return "<i4";
    case DType::boolean:
      return "|b1";
    case DType::bf16:
      break;
  }
  return std::nullopt;
}

NpyHeader parse_header(ByteReader& reader) { return HeaderParser(read_header(reader), reader.name()).parse(); }

void check_data(const ByteReader& reader, const NpyHeader& header, int64_t bytes) {
  check(bytes == reader.remaining(), kLoad, "{} has {} bytes of data, expected {} for shape {} of {}", reader.name(),
        reader.remaining(), bytes, Shape(header.shape), header.descr);
}

Tensor read_elements(ByteReader& reader, const NpyHeader& header) {
  const ElementType type = element_type(header.descr, reader.name());
  const int64_t bytes = checked_bytes(kLoad, reader.name(), header.shape, type.bytes);
  check_data(reader, header, bytes);
  const Shape shape(header.shape);

  Tensor out = empty(shape, type.dtype);
  const bool column_major = header.fortran_order && shape.rank() > 1;
  Tensor target = column_major ? empty(shape, type.dtype) : out;
  if (type.widen != '\0') {
    widen(type, reader.read_string(bytes, "data"), static_cast<int64_t*>(target.mutable_raw()));
  } else {
    reader.read(target.mutable_raw(), bytes, "data");
  }
  if (column_major) {
    from_column_major(target.raw(), out);
  }
  if (type.dtype == DType::boolean) {
    normalize_bools(out);
  }
  return out;
}

// `<U12`, `|S12`: NumPy's strings of at most 12 characters.
bool is_text(const std::string& descr) {
  return descr.size() > 2 && (descr[0] == '<' || descr[0] == '|') && (descr[1] == 'U' || descr[1] == 'S');
}

void append_utf8(std::string& text, uint32_t character) {
  if (character < 0x80) {
    text += static_cast<char>(character);
    return;
  }
  // The first byte says how many follow, and each of those has six bits.
  const int following = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
  constexpr std::array<uint32_t, 4> first = {0, 0xc0, 0xe0, 0xf0};
  text += static_cast<char>(first[static_cast<size_t>(following)] | (character >> (6 * following)));
  for (int i = following - 1; i >= 0; --i) {
    text += static_cast<char>(0x80U | ((character >> (6 * i)) & 0x3fU));
  }
}

// One string; NumPy fills it up with zeros.
std::string read_text(ByteReader& reader, const NpyHeader& header) {
  const std::string& file = reader.name();
  check(checked_bytes(kLoad, file, header.shape, 1) == 1, kLoad, "{} has shape {} of text, expected one text", file,
        Shape(header.shape));
  int64_t characters = 0;
  const char* end = header.descr.data() + header.descr.size();
  const auto [stop, error] = std::from_chars(header.descr.data() + 2, end, characters);
  check(error == std::errc() && stop == end && characters >= 0, kLoad, "{}: the elements are '{}', expected a length",
        file, header.descr);
  const bool wide = header.descr[1] == 'U';
  check_data(reader, header, checked_bytes(kLoad, file, {characters}, wide ? 4 : 1));
  const std::string bytes = reader.read_string(reader.remaining(), "text");
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += wide ? 4 : 1) {
    if (!wide) {
      text += bytes[i];
      continue;
    }
    uint32_t character = 0;
    std::memcpy(&character, bytes.data() + i, sizeof character);
    check(character <= 0x10ffff, kLoad, "{} has the character {}, expected Unicode", file, character);
    append_utf8(text, character);
  }
  text.erase(text.find_last_not_of('\0') + 1);
  return text;
}

}  // namespace

Tensor load_npy(const std::filesystem::path& path) {
  FileReader reader(kLoad, path);
  const NpyHeader header = parse_header(reader);
  return read_elements(reader, header);
}

NpyArray read_npy(ByteReader& reader) {
  const NpyHeader header = parse_header(reader);
  NpyArray array;
  if (is_text(header.descr)) {
    array.text = read_text(reader, header);
  } else {
    array.tensor = read_elements(reader, header);
  }
  return array;
}

std::string npy_header(std::string_view function, const Tensor& tensor) {
  const auto descr = descr_of(tensor.dtype());
  check(descr.has_value(), function, "tensor is {}, which NPY does not have, expected f64, f32, f16, i64, i32 or bool",
        tensor.dtype());
  std::string sizes;
  for (const int64_t size : tensor.shape()) {
    sizes += fmt::format("{}{},", sizes.empty() ? "" : " ", size);
  }
  if (tensor.rank() > 1) {
    sizes.pop_back();  // Python writes (2, 3) but (2,)
  }
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", *descr, sizes);
  // The data starts at a multiple of 64; the header ends with a line end.
  const size_t before = kMagic.size() + 4;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';

  std::string bytes(kMagic);
  bytes += '\1';
  bytes += '\0';
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header;
}

void save_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const Tensor dense = dense_on_host("save_npy", tensor);
  const std::string header = npy_header("save_npy", dense);
  FileWriter writer("save_npy", path);
  writer.write(header);
  writer.write(dense.raw(), static_cast<size_t>(dense.numel()) * size_of(dense.dtype()));
  writer.commit();
}

}  // namespace deltatape::io
