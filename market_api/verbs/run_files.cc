#include "market_api/verbs/run_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

namespace souk::market {

namespace fs = std::filesystem;

Result<std::string> RunFiles::make(const ContractId& id, uint64_t bytes) const {
  auto no_room = [] {
    return Error(Code::kTryAgain, "disk full: expected room for a run's state");
  };
  const std::string file = path(id);
  if (mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) return no_room();
  int fd = open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return no_room();
  const bool taken = posix_fallocate(fd, 0, static_cast<off_t>(bytes)) == 0;
  close(fd);
  if (taken) return file;
  unlink(file.c_str());
  return no_room();
}

std::optional<std::string> RunFiles::find(const ContractId& id) const {
  std::error_code failure;
  if (!fs::is_regular_file(path(id), failure)) return std::nullopt;
  return path(id);
}

Status RunFiles::sync(const ContractId& id) const {
  int fd = open(path(id).c_str(), O_RDWR | O_CLOEXEC);
  const bool synced = fd >= 0 && fdatasync(fd) == 0;
  if (fd >= 0) close(fd);
  if (!synced) return Error(Code::kBroken, "expected to write a run's state to the disk");
  return Done{};
}

void RunFiles::remove(const ContractId& id) const {
  unlink(path(id).c_str());
}

std::vector<ContractId> RunFiles::all() const {
  std::vector<ContractId> out;
  std::error_code failure;
  for (const auto& item : fs::directory_iterator(folder_, failure)) {
    auto id = named_from_hex<ContractId>(item.path().filename().string());
    if (id) out.push_back(*id);
  }
  return out;
}

uint64_t numbers_of(const contracts::TrainingSpec& spec) {
  auto shape = contracts::check_spec(spec);
  if (!shape) return 0;  // refused by the keeper
  uint64_t numbers = shape->parameters;
  for (size_t i = 0; i < spec.model.size(); ++i) {
    if (spec.model[i].op == contracts::Node::Op::kBatchNorm)
      numbers += 2 * uint64_t{shape->outputs[i + 1].channels};
  }
  return numbers;
}

uint64_t run_file_bytes(const contracts::TrainingSpec& spec) {
  constexpr uint64_t kBeside = uint64_t{192} << 10;  // keys, evidence, canaries
  const bool adam = spec.optimizer.kind == contracts::Optimizer::Kind::kAdam;
  uint64_t lists = 1;  // the parameters, and as many numbers for each of these
  lists += adam ? 2 : (spec.optimizer.momentum != 0 ? 1 : 0);
  lists += spec.ema != 0 ? 1 : 0;
  lists += spec.accumulate > 1 ? 1 : 0;
  return 2 * (lists * sizeof(float) * numbers_of(spec) + kBeside);
}

}  // namespace souk::market
