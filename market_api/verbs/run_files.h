// The sealed states of runs under way, a file for each that its trainer writes through shared
// memory: there as long as the run may be taken up, also by the next process of this host. What is
// in them only trainers know. trainer/SPEC.md, Taken up again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "contracts/training/spec.h"
#include "ledger/base/named.h"

namespace souk::market {

class RunFiles {
 public:
  explicit RunFiles(std::string folder) : folder_(std::move(folder)) {}

  // A new file of zeros, all its room taken now: who writes to it must not find the disk full.
  // kTryAgain where there is none.
  Result<std::string> make(const ContractId& id, uint64_t bytes) const;
  // Its path, where there is one.
  std::optional<std::string> find(const ContractId& id) const;
  // What its trainer has written so far is on the disk. kBroken where it cannot be.
  Status sync(const ContractId& id) const;
  void remove(const ContractId& id) const;
  std::vector<ContractId> all() const;

 private:
  std::string path(const ContractId& id) const { return folder_ + "/" + to_hex(id); }
  std::string folder_;
};

// Room for both copies of the state of such a run, at most.
uint64_t run_file_bytes(const contracts::TrainingSpec& spec);
// Numbers of its model: parameters and running statistics. 0: not a model.
uint64_t numbers_of(const contracts::TrainingSpec& spec);

}  // namespace souk::market
