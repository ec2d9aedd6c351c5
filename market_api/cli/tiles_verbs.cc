// souk ledger tiles build, ledger export, ledger import: logs as C2SP tlog-tiles files.
#include <sys/mman.h>
#include <sys/stat.h>

#include <fcntl.h>
#include <unistd.h>
#include <chrono>
#include <filesystem>

#include "ledger/audit/tiles_audit.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/store/ledger_file.h"
#include "ledger/store/store.h"
#include "ledger/store/tiles_dir.h"
#include "ledger/store/tiles_prefix.h"
#include "market_api/cli/log_verbs.h"

namespace souk::market {
namespace {

struct BuildOptions {
  std::string leaves, out;
  std::optional<uint64_t> size;
};
struct ExportOptions {
  std::string out, data, url, key, policy;
};
struct ImportOptions {
  std::string from, data, key;
};

// A file, mapped: leaves may be many.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    bool regular = fd >= 0 && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    auto length = regular ? static_cast<size_t>(status.st_size) : 0;
    void* data =
        regular && length > 0 ? ::mmap(nullptr, length, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
    if (fd >= 0) ::close(fd);
    if (!regular || data == MAP_FAILED) {
      return Error(Code::kMalformed, path + ": expected a file that can be read");
    }
    return MappedFile(static_cast<const char*>(data), length);
  }
  ~MappedFile() {
    if (data_) ::munmap(const_cast<char*>(data_), length_);
  }
  MappedFile(MappedFile&& other) noexcept : data_(other.data_), length_(other.length_) {
    other.data_ = nullptr;
    other.length_ = 0;
  }
  MappedFile& operator=(MappedFile&&) = delete;
  std::string_view text() const { return {data_ ? data_ : "", length_}; }

 private:
  MappedFile(const char* data, size_t length) : data_(data), length_(length) {}
  const char* data_;
  size_t length_;
};

// A folder that a verb fills: as it was when the verb fails, if it was not there before.
class Filling {
 public:
  explicit Filling(const std::string& folder) : folder_(path_exists(folder) ? "" : folder) {}
  ~Filling() {
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }
  Filling(const Filling&) = delete;
  Filling& operator=(const Filling&) = delete;
  void done() { folder_.clear(); }

 private:
  std::string folder_;
};

using VisitLeaf = std::function<Status(ByteView)>;

// A log is added to a directory that holds an earlier state of it, or nothing: looked at before
// anything is written.
Status check_directory(const std::string& out, const std::function<Status(VisitLeaf)>& each_leaf) {
  auto prefix = TRY(ledger::TilesPrefix::of(out));
  if (prefix.empty()) return Done{};
  TRY(each_leaf([&](ByteView leaf) { return prefix.add(leaf); }));
  return prefix.finish();
}

// Whatever stands between newlines is a leaf; a newline at the end begins none.
Status each_line(std::string_view text, const std::optional<uint64_t>& wanted,
                 const VisitLeaf& visit) {
  uint64_t count = 0;
  for (; !text.empty() && (!wanted || count < *wanted); ++count) {
    size_t end = std::min(text.find('\n'), text.size());
    TRY(visit(as_bytes(text.substr(0, end))));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (!wanted || count == *wanted) return Done{};
  return Error(Code::kMalformed,
               "--size: expected at most " + std::to_string(count) + ", the leaves there are");
}

Result<Answer> build(Session&, const BuildOptions& options) {
  Bytes piped;
  std::optional<MappedFile> file;
  std::string_view text;
  if (is_stream(options.leaves)) {
    piped = TRY(load_input(options.leaves, size_t{4} << 30));
    text = as_text(piped);
  } else {
    file.emplace(TRY(MappedFile::open(options.leaves)));
    text = file->text();
  }
  auto start = std::chrono::steady_clock::now();
  auto each_leaf = [&](const VisitLeaf& visit) { return each_line(text, options.size, visit); };
  if (options.size) TRY(each_leaf([](ByteView) { return Status(Done{}); }));
  // A state with more of these leaves than are wanted now is this log's, too.
  TRY(check_directory(
      options.out, [&](const VisitLeaf& visit) { return each_line(text, std::nullopt, visit); }));
  Filling filling(options.out);
  auto builder = TRY(ledger::TilesBuilder::open(options.out));
  TRY(each_leaf([&](ByteView leaf) { return builder.add(leaf); }));
  TRY(builder.finish());
  filling.done();
  std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  Answer answer;
  auto root = builder.tree().root();
  answer.json = {{"root", root},
                 {"size", builder.tree().size()},
                 {"leaf_bytes", builder.leaf_bytes()},
                 {"seconds", Json::real(took.count())},
                 {"out", options.out}};
  answer.text = std::to_string(builder.tree().size()) + " leaves in " + options.out + "\nroot " +
                to_hex(ByteView(root));
  return answer;
}

std::string ledger_path(const std::string& data) {
  return is_directory(data) ? data + "/ledger.db" : data;
}

// What is asked of the checkpoint of a log that is served: what the call says or, where it names
// neither key nor policy, what the identity pins.
struct Served {
  std::string url;
  JudgeCheckpoint judge;
};

Result<Served> served_log(const Session& session, const ExportOptions& options) {
  bool named = !options.key.empty() || !options.policy.empty();
  if (!options.url.empty()) {
    auto judge = TRY(judge_by(options.key, options.policy));
    return Served{options.url, std::move(judge)};
  }
  auto identity = TRY(session.identity_if_any());
  if (!identity) {
    return Error(Code::kMalformed,
                 "expected --data DIR, --url URL, or an identity that pins a market");
  }
  const MarketPin& pin = identity->pin();
  if (named) {
    auto judge = TRY(judge_by(options.key, options.policy));
    return Served{pin.url, std::move(judge)};
  }
  auto pinned = TRY(judge_by(pin.ledger_key, ""));
  auto quorum = TRY(pinned_quorum(pin));
  auto judge = [pinned, quorum](std::string_view text) -> Result<ledger::PolicyVerdict> {
    auto verdict = TRY(pinned(text));
    if (!quorum) return verdict;
    auto note = TRY(ledger::parse_note(text));
    TRY(quorum->witnessed_at(note));
    return verdict;
  };
  return Served{pin.url, std::move(judge)};
}

// A log as its server shows it: every entry, under a checkpoint that is believed, or no log.
Result<Answer> export_served(const Served& served, const ExportOptions& options) {
  auto fetch = served_files(served.url);
  auto there = fetch("checkpoint");
  if (!there) return std::move(there).take_error().within(served.url + "/checkpoint");
  Bytes note = std::move(*there);
  auto verdict = TRY(served.judge(as_text(note)));
  auto each_leaf = [&](const VisitLeaf& visit) {
    return ledger::each_leaf(fetch, verdict.checkpoint.size,
                             [&](uint64_t, ByteView leaf) { return visit(leaf); });
  };
  TRY(check_directory(options.out, each_leaf));
  Filling filling(options.out);
  auto builder = TRY(ledger::TilesBuilder::open(options.out));
  TRY(each_leaf([&](ByteView leaf) { return builder.add(leaf); }));
  TRY(builder.finish());
  if (builder.tree().root() != verdict.checkpoint.root) {
    return Error(
        Code::kUnauthentic,
        "expected the entries to add up to the signed root; see souk ledger audit --tiles");
  }
  TRY(builder.put_text("vkey", verdict.log_key + "\n"));
  TRY(builder.put_text("checkpoint", as_text(note)));
  filling.done();
  Answer answer;
  answer.json = {{"root", verdict.checkpoint.root},
                 {"size", verdict.checkpoint.size},
                 {"log_key", verdict.log_key},
                 {"cosignatures", verdict.witnesses.size()},
                 {"out", options.out}};
  answer.text = std::to_string(verdict.checkpoint.size) + " entries in " + options.out + "\nroot " +
                to_hex(ByteView(verdict.checkpoint.root));
  return answer;
}

Result<Answer> export_ledger(Session& session, const ExportOptions& options) {
  if (options.data.empty()) {
    auto served = TRY(served_log(session, options));
    return export_served(served, options);
  }
  std::string path = ledger_path(options.data);
  if (!path_exists(path)) return Error(Code::kMalformed, "no ledger " + path);
  auto file = TRY(about_input(ledger::LedgerFile::open(path), path));
  auto head = TRY(about_input(file.head(), path));
  auto vkey = TRY(about_input(file.log_key(), path));
  auto key = TRY(about_input(ledger::NoteKey::parse(vkey), path));
  auto checkpoint = TRY(about_input(ledger::open_checkpoint(head.checkpoint, key), path));
  TRY(check_directory(options.out, [&](const VisitLeaf& visit) {
    return file.each_entry([&](int64_t, ByteView leaf) { return visit(leaf); });
  }));
  Filling filling(options.out);
  auto builder = TRY(ledger::TilesBuilder::open(options.out));
  // What cannot be read is the file's, what cannot be written is not.
  Status added = Done{};
  auto read = file.each_entry([&](int64_t, ByteView leaf) { return added = builder.add(leaf); });
  TRY(std::move(added));
  TRY(about_input(std::move(read), path));
  TRY(builder.finish());
  if (builder.tree().size() != checkpoint.size || builder.tree().root() != checkpoint.root) {
    return Error(Code::kUnauthentic,
                 "expected the entries to add up to the signed root; see souk ledger audit");
  }
  TRY(builder.put_text("vkey", vkey + "\n"));
  // Last: with it the directory is a log.
  TRY(builder.put_text("checkpoint", head.checkpoint));
  filling.done();
  Answer answer;
  answer.json = {{"root", checkpoint.root},
                 {"size", checkpoint.size},
                 {"log_key", vkey},
                 {"out", options.out}};
  answer.text = std::to_string(checkpoint.size) + " entries in " + options.out + "\nroot " +
                to_hex(ByteView(checkpoint.root));
  return answer;
}

Result<std::string> text_file(const std::string& path) {
  auto bytes = TRY(load_argument(path, ledger::kMaxNoteBytes));
  return to_text(bytes);
}

Result<Answer> import_ledger(Session& session, const ImportOptions& given) {
  ImportOptions options = given;
  if (options.data.empty()) {
    auto home = TRY(session.home());
    options.data = home.directory() + "/market";
  }
  std::string vkey = options.key;
  if (vkey.empty()) {
    if (!path_exists(options.from + "/vkey")) {
      return Error(Code::kMalformed, options.from +
                                         "/vkey: expected it beside the tiles, as souk ledger "
                                         "export writes it, or --key VKEY");
    }
    vkey = TRY(text_file(options.from + "/vkey"));
    while (!vkey.empty() && vkey.back() == '\n') vkey.pop_back();
  }
  auto key = TRY(about_input(ledger::NoteKey::parse(vkey),
                             options.key.empty() ? options.from + "/vkey" : "--key"));
  auto note = TRY(text_file(options.from + "/checkpoint"));
  auto checkpoint =
      TRY(about_file(ledger::open_checkpoint(note, key), options.from + "/checkpoint"));
  Filling filling(options.data);
  TRY(make_directory(options.data));
  auto fetch = ledger::files_of(options.from);
  if (path_exists(options.data + "/ledger.db")) {
    return Error(Code::kConflict,
                 options.data + "/ledger.db: expected no ledger there yet; import makes a new one");
  }
  auto restored = ledger::LedgerStore::restore(
      options.data + "/ledger.db", key, note, [&](const ledger::LedgerStore::VisitLeaf& visit) {
        return ledger::each_leaf(fetch, checkpoint.size, visit);
      });
  if (!restored && restored.error().code() != Code::kUnauthentic)
    return about_file(std::move(restored).take_error(), "");
  // Where restoring stops is one entry past one that was changed: the audit knows the place. Whole
  // entries under a tile that is not would be served to whoever reads this folder next.
  auto audit = ledger::audit_tiles(
      fetch, [&](std::string_view served) { return ledger::check_under_key(served, key); });
  if (!audit.report.ok) {
    const std::string entry =
        audit.report.first_bad ? "entry " + std::to_string(*audit.report.first_bad) + ": " : "";
    const std::string reason = audit.report.reason;
    return Error(Code::kUnauthentic, options.from + "/" + audit.place.file + ", bytes " +
                                         std::to_string(audit.place.from) + " to " +
                                         std::to_string(audit.place.to) + ": " +
                                         (reason.starts_with(entry) ? "" : entry) + reason +
                                         "; nothing was imported");
  }
  if (!restored) return about_file(std::move(restored).take_error(), "");
  filling.done();
  Answer answer;
  answer.json = {{"root", checkpoint.root},
                 {"size", checkpoint.size},
                 {"log_key", key.vkey()},
                 {"file", options.data + "/ledger.db"}};
  answer.text = std::to_string(checkpoint.size) + " entries in " + options.data +
                "/ledger.db\nroot " + to_hex(ByteView(checkpoint.root));
  return answer;
}

}  // namespace

void add_tiles_verbs(CLI::App& ledger, Session& session) {
  CLI::App* tiles = add_group(ledger, "tiles", "Logs as C2SP tlog-tiles files");
  auto building = std::make_shared<BuildOptions>();
  CLI::App* verb =
      add_verb(*tiles, session, "build", "Tiles and root of any leaves", building, build);
  verb->add_option("--leaves", building->leaves, "a file of leaves, one a line (-: stdin)")
      ->required();
  verb->add_option("--out", building->out, "the directory to write")->required();
  verb->add_option("--size", building->size, "only the first N leaves");

  auto exporting = std::make_shared<ExportOptions>();
  verb = add_verb(ledger, session, "export", "A ledger as tlog-tiles files that import restores",
                  exporting, export_ledger);
  verb->add_option("DIR", exporting->out, "the directory to write")->required();
  auto* data =
      verb->add_option("--data", exporting->data, "a market's folder, read as it lies on disk");
  verb->add_option("--url", exporting->url,
                   "a log's tlog-tiles, as they are served (default: the pinned market's)")
      ->excludes(data);
  verb->add_option("--key", exporting->key,
                   "of what is served: vkey of the log (default: the pinned market's)");
  verb->add_option("--policy", exporting->policy,
                   "of what is served: C2SP tlog-policy that its checkpoint must meet (with --key: "
                   "its witnesses)");

  auto importing = std::make_shared<ImportOptions>();
  verb = add_verb(ledger, session, "import", "A ledger file from what export wrote", importing,
                  import_ledger);
  verb->add_option("DIR", importing->from, "the directory that export wrote")->required();
  verb->add_option("--data", importing->data,
                   "the folder to make ledger.db in (default: market in the home)");
  verb->add_option("--key", importing->key, "vkey of the log (default: DIR/vkey)");
}

}  // namespace souk::market
