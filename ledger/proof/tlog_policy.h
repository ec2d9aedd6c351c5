// C2SP tlog-policy (c2sp.org/tlog-policy): which logs, which witnesses, and how
// many of them make a checkpoint worth believing.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/proof/vkey.h"

namespace souk::ledger {

inline constexpr size_t kMaxPolicyBytes = 1 << 20;

class TlogPolicy {
 public:
  struct Log {
    Vkey key;         // type 1 or 6; its name is the log's origin
    std::string url;  // or ""
  };
  struct Witness {
    std::string name;  // of this file; not the key's
    Vkey key;          // type 4 or 6
    std::string url;   // or ""
  };
  struct Group {
    std::string name;
    size_t threshold = 0;              // 1 <= threshold <= members.size()
    std::vector<std::string> members;  // witnesses and groups of lines before
  };

  // kMalformed names the line and what was expected there. A last line without its
  // newline is read as one.
  static Result<TlogPolicy> parse(std::string_view text);

  const std::vector<Log>& logs() const { return logs_; }
  const std::vector<Witness>& witnesses() const { return witnesses_; }
  const std::vector<Group>& groups() const { return groups_; }
  const std::string& quorum() const { return quorum_; }  // a name, or "none"

  // Whether the quorum is met when the witnesses of these names have cosigned.
  // Other names mean nothing.
  bool satisfied_by(const std::set<std::string>& witnesses) const;
  // Whether both are met by the same keys: the quorum is of the same witnesses in the same groups,
  // in whatever order, under whatever names of the file and at whatever addresses.
  bool asks_for_the_same(const TlogPolicy& other) const;

 private:
  TlogPolicy() = default;
  friend class PolicyReader;
  // The thresholds and keys that a name of this file stands for.
  std::string meaning_of(const std::string& name) const;

  std::vector<Log> logs_;
  std::vector<Witness> witnesses_;
  std::vector<Group> groups_;  // each after its members
  std::string quorum_;
};

}  // namespace souk::ledger
