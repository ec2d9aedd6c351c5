// The host's ends of the lines to a keeper and to a trainer, frame by frame, and what crosses
// them.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ledger/entry/entry.h"
#include "trainer/keeper/keeper.h"
#include "trainer/session/session.h"
#include "trainer/wire/messages.h"

namespace souk::flows {

// A ledger as a host may show it: leaves from seq 0 and a checkpoint over all.
struct History {
  std::vector<Bytes> leaves;
  std::string checkpoint;
  uint64_t size() const { return leaves.size(); }
};

std::string kind_and_body(const trainer::Frame& frame);  // for messages of failed tests
// The code of a refusal; nullopt for every other frame.
std::optional<Code> refused(const trainer::Frame& frame);
std::string refusal_message(const trainer::Frame& frame);
// The envelope of a kEnvelope or kResult frame.
Result<ledger::Envelope> envelope_in(const trainer::Frame& frame);
ledger::AuthenticEntry authentic(const ledger::Envelope& envelope);
Bytes envelope_bytes(const ledger::Envelope& envelope);
// The body of a kLeaves frame.
Json leaves_body(std::span<const Bytes> leaves);

// A keeper of this process and what its host keeps for it.
class KeeperHost {
 public:
  KeeperHost(const trainer::EnclaveSelf& self, trainer::EvaluatePolicy evaluate,
             trainer::LocalTime local_time = trainer::boot_time());

  trainer::Frame ask(trainer::Kind kind, const Json& body);
  trainer::Frame about(trainer::Kind kind, const ContractId& contract);
  trainer::Frame begin(ByteView genesis_leaf, ByteView sealed = {});
  // kLeaves with exactly these; kConfirm with this note.
  trainer::Frame leaves(std::span<const Bytes> leaves);
  trainer::Frame confirm(const std::string& note);
  // What of `history` it has not been fed, then the checkpoint. The first refusal.
  trainer::Frame follow(const History& history);

  const Bytes& sealed() const { return sealed_; }

 private:
  trainer::Frame noted(trainer::Frame answer);

  trainer::Keeper keeper_;
  Bytes sealed_;
  uint64_t fed_ = 0;
};

// A host's end of the line to a trainer, wherever that runs. Every frame received is also kept.
class TrainerLine {
 public:
  explicit TrainerLine(trainer::Channel channel) : channel_(std::move(channel)) {}

  // kTryAgain when the trainer has gone.
  Status send(const trainer::Frame& frame);
  Result<trainer::Frame> receive();
  Result<trainer::Frame> ask(const trainer::Frame& frame);
  const std::vector<trainer::Frame>& heard() const { return heard_; }
  // How much of the ledger it was shown, for who shows it more.
  uint64_t shown() const { return shown_; }
  void note_shown(uint64_t size) { shown_ = size; }

 protected:
  void hang_up();

 private:
  trainer::Channel channel_;
  std::vector<trainer::Frame> heard_;
  uint64_t shown_ = 0;
};

// run_trainer in a thread behind a socket pair.
class TrainerThread : public TrainerLine {
 public:
  // `shared`: where it keeps its sealed state; borrowed.
  explicit TrainerThread(const trainer::EnclaveSelf& self, std::span<uint8_t> shared = {});
  ~TrainerThread();
  TrainerThread(const TrainerThread&) = delete;
  TrainerThread& operator=(const TrainerThread&) = delete;

  // What run_trainer answered. Closes the channel first if it must.
  Status finish();

 private:
  TrainerThread(const trainer::EnclaveSelf& self, std::span<uint8_t> shared,
                std::array<int, 2> ends);

  std::optional<Status> ended_;
  std::thread thread_;
};

}  // namespace souk::flows
