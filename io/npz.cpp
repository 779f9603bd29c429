#include "io/npz.h"

#include <zip.h>

#include <memory>
#include <set>
#include <string_view>

#include "core/error.h"
#include "io/elements.h"
#include "io/file.h"
#include "io/npy_bytes.h"

namespace deltatape::io {
namespace {

constexpr std::string_view kLoad = "load_npz";
constexpr std::string_view kSave = "save_npz";
constexpr std::string_view kArray = ".npy";
constexpr zip_uint64_t kDeflateFactor = 1032;  // two bits of a deflated block stand for at most 258 bytes
constexpr zip_uint64_t kMostTextBytes = 16'000'000;
constexpr zip_uint16_t kMsDosDate1980 = 0x21;  // the first day that the format has, as NumPy writes it

struct DiscardArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
using Archive = std::unique_ptr<zip_t, DiscardArchive>;

struct FreeSource {
  void operator()(zip_source_t* source) const { zip_source_free(source); }
};
using Source = std::unique_ptr<zip_source_t, FreeSource>;

struct CloseMember {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};

std::string text_of(zip_error_t& error) {
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

Archive open_archive(const std::string& file) {
  int code = 0;
  Archive archive(zip_open(file.c_str(), ZIP_RDONLY, &code));
  if (!archive) {
    zip_error_t error;
    zip_error_init_with_code(&error, code);
    fail(kLoad, "{} is not a .npz file: {}", file, text_of(error));
  }
  return archive;
}

Archive open_archive(std::string_view bytes, const std::string& name) {
  zip_error_t error;
  zip_error_init(&error);
  Source source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error));
  Archive archive(source ? zip_open_from_source(source.get(), ZIP_RDONLY, &error) : nullptr);
  if (!archive) {
    fail(kLoad, "{} is not a .npz file: {}", name, text_of(error));
  }
  static_cast<void>(source.release());  // the archive's now
  return archive;
}

// What the directory says of a member, checked on its own.
zip_stat_t member_entry(zip_t* archive, zip_uint64_t index, const std::string& file) {
  zip_stat_t entry;
  zip_stat_init(&entry);
  check(zip_stat_index(archive, index, 0, &entry) == 0, kLoad, "{}: member {} cannot be read: {}", file, index,
        zip_strerror(archive));
  constexpr zip_uint64_t needed =
      ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
  check((entry.valid & needed) == needed, kLoad, "{}: the directory says too little of member {}", file, index);
  check(entry.encryption_method == ZIP_EM_NONE, kLoad, "{}: '{}' is encrypted, expected no encryption", file,
        entry.name);
  const bool stored = entry.comp_method == ZIP_CM_STORE;
  check(stored || entry.comp_method == ZIP_CM_DEFLATE, kLoad,
        "{}: '{}' is compressed by method {}, expected stored (0) or deflated (8)", file, entry.name,
        entry.comp_method);
  check(stored ? entry.size == entry.comp_size : entry.size / kDeflateFactor <= entry.comp_size, kLoad,
        "{}: '{}' has {} bytes, {} in the file, which is impossible", file, entry.name, entry.size, entry.comp_size);
  return entry;
}

// One member, unpacked on the way.
class MemberReader : public ByteReader {
 public:
  MemberReader(zip_t* archive, zip_uint64_t index, const zip_stat_t& entry, const std::string& file)
      : ByteReader(kLoad, file + ": '" + entry.name + "'"), member_(zip_fopen_index(archive, index, 0)) {
    check(member_ != nullptr, kLoad, "{} cannot be read: {}", name(), zip_strerror(archive));
    set_size(static_cast<int64_t>(entry.size));
  }

  // The checksum is looked at when the end has been reached.
  void finish() {
    char more = 0;
    const zip_int64_t count = zip_fread(member_.get(), &more, 1);
    check(count >= 0, kLoad, "{} is damaged: {}", name(), zip_file_strerror(member_.get()));
    check(count == 0, kLoad, "{} goes on after the {} bytes that the directory says", name(), size());
  }

 private:
  int64_t read_bytes(void* to, int64_t bytes) override {
    int64_t done = 0;
    while (done < bytes) {
      const zip_int64_t count =
          zip_fread(member_.get(), static_cast<char*>(to) + done, static_cast<zip_uint64_t>(bytes - done));
      check(count >= 0, kLoad, "{} is damaged: {}", name(), zip_file_strerror(member_.get()));
      if (count == 0) {
        break;
      }
      done += count;
    }
    return done;
  }

  std::unique_ptr<zip_file_t, CloseMember> member_;
};

bool is_array(std::string_view name) {
  return name.size() > kArray.size() && name.substr(name.size() - kArray.size()) == kArray;
}

void read_member(MemberReader& reader, std::string name, Npz& into) {
  NpyArray array;
  if (is_array(name)) {
    name.resize(name.size() - kArray.size());
    array = read_npy(reader);
  } else {
    check(reader.size() <= static_cast<int64_t>(kMostTextBytes), kLoad,
          "{} has {} bytes, expected at most {} of what is not an array", reader.name(), reader.size(), kMostTextBytes);
    array.text = reader.read_string(reader.size(), "text");
  }
  reader.finish();
  check(into.tensors.count(name) == 0 && into.texts.count(name) == 0, kLoad, "{} is there twice, expected once",
        reader.name());
  if (array.text) {
    into.texts[name] = std::move(*array.text);
  } else {
    into.tensors[name] = std::move(array.tensor);
  }
}

Npz read_members(const Archive& archive, const std::string& file, int64_t file_bytes) {
  const zip_int64_t members = zip_get_num_entries(archive.get(), 0);
  check(members > 0, kLoad, "{} has no members, expected .npy arrays", file);
  Npz result;
  zip_uint64_t packed = 0;  // members that overlap would make much out of little
  for (zip_uint64_t i = 0; i < static_cast<zip_uint64_t>(members); ++i) {
    const zip_stat_t entry = member_entry(archive.get(), i, file);
    packed += entry.comp_size;
    check(entry.comp_size <= static_cast<zip_uint64_t>(file_bytes) && packed <= static_cast<zip_uint64_t>(file_bytes),
          kLoad, "{}: the members up to '{}' have {} bytes, more than the file's {}", file, entry.name, packed,
          file_bytes);
    const std::string name = entry.name;
    if (!name.empty() && name.back() == '/') {
      continue;  // a folder
    }
    MemberReader reader(archive.get(), i, entry, file);
    read_member(reader, name, result);
  }
  return result;
}

// An archive under construction in memory: FileWriter brings it to the disk.
class ArchiveWriter {
 public:
  ArchiveWriter() {
    zip_error_t error;
    zip_error_init(&error);
    bytes_.reset(zip_source_buffer_create(nullptr, 0, 0, &error));
    check(bytes_ != nullptr, kSave, "an archive in memory cannot be made: {}", text_of(error));
    archive_.reset(zip_open_from_source(bytes_.get(), ZIP_TRUNCATE, &error));
    check(archive_ != nullptr, kSave, "an archive in memory cannot be made: {}", text_of(error));
    zip_source_keep(bytes_.get());  // one reference is the archive's, one is ours
  }

  // `content` must stay where it is until finish.
  void add(const std::string& name, const std::string& content) {
    zip_source_t* source = zip_source_buffer(archive_.get(), content.data(), content.size(), 0);
    check(source != nullptr, kSave, "'{}' cannot be added: {}", name, zip_strerror(archive_.get()));
    const zip_int64_t index = zip_file_add(archive_.get(), name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      fail(kSave, "'{}' cannot be added: {}", name, zip_strerror(archive_.get()));
    }
    const auto place = static_cast<zip_uint64_t>(index);
    const bool ready = zip_set_file_compression(archive_.get(), place, ZIP_CM_DEFLATE, 0) == 0 &&
                       zip_file_set_dostime(archive_.get(), place, 0, kMsDosDate1980, 0) == 0;
    check(ready, kSave, "'{}' cannot be added: {}", name, zip_strerror(archive_.get()));
  }

  std::string finish() {
    check(zip_close(archive_.get()) == 0, kSave, "the archive cannot be made: {}", zip_strerror(archive_.get()));
    static_cast<void>(archive_.release());  // closed
    zip_source_t* source = bytes_.get();
    zip_stat_t whole;
    zip_stat_init(&whole);
    const bool open = zip_source_stat(source, &whole) == 0 && zip_source_open(source) == 0;
    check(open, kSave, "the archive cannot be read back");
    std::string bytes(whole.size, '\0');
    const zip_int64_t count = zip_source_read(source, bytes.data(), bytes.size());
    zip_source_close(source);
    check(count == static_cast<zip_int64_t>(bytes.size()), kSave, "the archive cannot be read back");
    return bytes;
  }

 private:
  Source bytes_;
  Archive archive_;
};

}  // namespace

Npz load_npz(const std::filesystem::path& path) {
  const int64_t bytes = FileReader(kLoad, path).size();  // its errors are those of every other format
  return read_members(open_archive(path.string()), path.string(), bytes);
}

Npz read_npz(std::string_view bytes, const std::string& name) {
  return read_members(open_archive(bytes, name), name, static_cast<int64_t>(bytes.size()));
}

void save_npz(const std::filesystem::path& path, const TensorMap& tensors,
              const std::map<std::string, std::string>& texts) {
  std::map<std::string, std::string> members;
  for (const auto& [name, text] : texts) {
    check(!is_array(name), kSave, "a text is called '{}', expected a name that does not end in .npy", name);
    members[name] = text;
  }
  for (const auto& [name, tensor] : tensors) {
    const Tensor dense = dense_on_host(kSave, tensor);
    std::string& bytes = members[name + std::string(kArray)];
    bytes = npy_header(kSave, dense);
    bytes.append(static_cast<const char*>(dense.raw()), static_cast<size_t>(dense.numel()) * size_of(dense.dtype()));
  }
  ArchiveWriter archive;
  for (const auto& [name, content] : members) {
    archive.add(name, content);
  }
  write_file(kSave, path, archive.finish());
}

}  // namespace deltatape::io
