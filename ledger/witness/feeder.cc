#include "ledger/witness/feeder.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "ledger/crypto/hash.h"
#include "ledger/proof/add_checkpoint.h"
#include "ledger/proof/witnessed_state.h"

namespace souk::ledger {
namespace {

using SteadyClock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kFirstPause{100};
constexpr milliseconds kLongestPause{2000};

// The checkpoint every witness is asked about, until a quorum has answered.
struct Target {
  uint64_t round = 0;
  std::string note;
  std::string text;
  uint64_t size = 0;
};

// One witness as we know it.
struct Known {
  WitnessFeeder::Peer peer;
  uint64_t size = 0;      // what it holds, as far as we know
  uint64_t cosigned = 0;  // the largest that it has cosigned for us
  uint64_t done = 0;      // round
  bool excluded = false;  // it has forgotten what it cosigned
  std::string trouble;
};

// What one visit to a witness came to.
struct Cosigned {
  NoteSignature line;
};
struct Unavailable {
  std::string why;
};
struct Behind {};  // it holds a newer checkpoint of ours
struct Forgetful {
  uint64_t size;
};
struct Caught {
  std::string kind;
  std::string reported;
  std::string request;
  WitnessAnswer answer;
};
using Outcome = std::variant<Cosigned, Unavailable, Behind, Forgetful, Caught>;

}  // namespace

struct WitnessFeeder::Impl {
  // Set once in start().
  Sequencer& ledger;
  const WitnessQuorum quorum;
  const Hooks hooks;

  // Guarded by mutex.
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::vector<Known> known;  // the vector itself never changes
  Target target;
  std::map<size_t, NoteSignature> lines;  // to the target, by witness
  bool met = true;                        // the target has its quorum
  Witnessed witnessed;
  SteadyClock::time_point witnessed_from;  // when the round began that gave it
  SteadyClock::time_point round_began;
  std::string halt;
  bool stopping = false;

  std::vector<std::thread> threads;

  Impl(Sequencer& l, WitnessQuorum q, Hooks h)
      : ledger(l), quorum(std::move(q)), hooks(std::move(h)) {}

  void restore(ByteView saved);
  void save() const;
  void aim();
  void aim_if_useful();
  void visit_forever(size_t at);
  Outcome visit(const Known& at, const Target& about);
  void take(size_t at, const Target& about, Outcome outcome);
  void take_line(size_t at, const Target& about, NoteSignature line);
  void keep(const Known& at, const std::string& kind, const std::string& reported,
            const std::string& request, const WitnessAnswer& answer, std::string& path);
};

WitnessFeeder::WitnessFeeder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

std::unique_ptr<WitnessFeeder> WitnessFeeder::start(Sequencer& ledger, WitnessQuorum quorum,
                                                    std::vector<Peer> peers, Hooks hooks,
                                                    ByteView saved) {
  auto impl = std::make_unique<Impl>(ledger, std::move(quorum), std::move(hooks));
  for (auto& peer : peers) impl->known.push_back({.peer = std::move(peer), .trouble = ""});
  impl->restore(saved);
  std::unique_ptr<WitnessFeeder> feeder(new WitnessFeeder(std::move(impl)));
  feeder->kick();
  for (size_t at = 0; at < feeder->impl_->known.size(); ++at) {
    feeder->impl_->threads.emplace_back(
        [state = feeder->impl_.get(), at] { state->visit_forever(at); });
  }
  return feeder;
}

WitnessFeeder::~WitnessFeeder() {
  {
    std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  for (auto& thread : impl_->threads) thread.join();
}

void WitnessFeeder::kick() {
  std::lock_guard lock(impl_->mutex);
  impl_->aim_if_useful();
}

Result<Witnessed> WitnessFeeder::wait_for(uint64_t size, int64_t max_age_ms, int64_t wait_ms) {
  Impl& impl = *impl_;
  if (size > impl.ledger.size()) {
    return Error(Code::kMalformed, "expected a size that is committed");
  }
  std::unique_lock lock(impl.mutex);
  auto until = SteadyClock::now() + milliseconds(wait_ms);
  // A round that begins from now on is young enough, however long it takes to ask.
  auto young = SteadyClock::now() - milliseconds(std::max<int64_t>(max_age_ms, 0));
  auto good = [&] {
    return !impl.witnessed.note.empty() && impl.witnessed.size >= size &&
           (max_age_ms < 0 || impl.witnessed_from >= young);
  };
  while (impl.halt.empty() && !impl.stopping && !good()) {
    if (impl.met) {
      impl.aim();
    } else {
      impl.aim_if_useful();
    }
    if (impl.changed.wait_until(lock, until) == std::cv_status::timeout) break;
  }
  if (!impl.halt.empty()) return Error(Code::kUnauthentic, impl.halt);
  if (good()) return impl.witnessed;
  std::string message = "expected a quorum of witnesses within " + std::to_string(wait_ms) + " ms";
  for (const auto& one : impl.known) {
    if (!one.trouble.empty()) message += "; " + one.peer.witness.name + ": " + one.trouble;
  }
  return Error(Code::kTryAgain, message);
}

Witnessed WitnessFeeder::newest() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->witnessed;
}

Status WitnessFeeder::halted() const {
  std::lock_guard lock(impl_->mutex);
  if (!impl_->halt.empty()) return Error(Code::kUnauthentic, impl_->halt);
  return Done{};
}

std::vector<std::string> WitnessFeeder::troubles() const {
  std::lock_guard lock(impl_->mutex);
  std::vector<std::string> out;
  for (const auto& one : impl_->known) out.push_back(one.trouble);
  return out;
}

// Only checkpoints whose commit has returned are shown to a witness: one that a crash took
// back would make an honest log look rolled back.
void WitnessFeeder::Impl::aim() {
  std::string note = ledger.checkpoint();
  auto parsed = parse_note(note);
  auto checkpoint = parsed ? parse_checkpoint(parsed->text) : Result<Checkpoint>(parsed.error());
  CHECK(checkpoint);  // our own
  target = {target.round + 1, std::move(note), parsed->text, checkpoint->size};
  lines.clear();
  met = false;
  round_began = SteadyClock::now();
  changed.notify_all();
}

// A target that some have cosigned stays until it has its quorum, or they would never meet.
void WitnessFeeder::Impl::aim_if_useful() {
  if (halt.empty() && (met || lines.empty()) && ledger.size() > target.size) aim();
}

void WitnessFeeder::Impl::visit_forever(size_t at) {
  auto pause = kFirstPause;
  std::unique_lock lock(mutex);
  while (true) {
    Known& one = known[at];
    changed.wait(lock, [&] {
      return stopping || (halt.empty() && !one.excluded && one.done < target.round);
    });
    if (stopping) return;
    Target about = target;
    Known seen = one;
    lock.unlock();
    auto outcome = visit(seen, about);
    lock.lock();
    bool again = std::holds_alternative<Unavailable>(outcome);
    take(at, about, std::move(outcome));
    if (!again) {
      pause = kFirstPause;
      continue;
    }
    changed.wait_for(lock, pause, [&] { return stopping; });
    pause = std::min(2 * pause, kLongestPause);
    aim_if_useful();
  }
}

// tlog-witness, add-checkpoint, from the client's side. Without the lock.
Outcome WitnessFeeder::Impl::visit(const Known& at, const Target& about) {
  uint64_t old_size = at.size;
  if (old_size > about.size) return Behind{};
  for (int attempt = 0; attempt < 3; ++attempt) {
    AddCheckpoint request{.old_size = old_size, .proof = {}, .checkpoint = about.note};
    if (0 < old_size && old_size < about.size) {
      auto proof = ledger.consistency(old_size, about.size);
      if (!proof) return Unavailable{proof.error().expected()};
      request.proof = std::move(*proof);
    }
    auto answer = at.peer.exchange("POST", "/add-checkpoint", request.text());
    if (!answer) return Unavailable{answer.error().expected()};
    if (answer->status == 200) {
      auto answered = parse_signature_lines(answer->body);
      if (!answered) return Unavailable{"expected signature lines"};
      for (const auto& line : *answered) {
        if (is_by(line, at.peer.witness.key) &&
            verify_cosignature(about.text, line, at.peer.witness.key)) {
          return Cosigned{line};
        }
      }
      return Unavailable{"expected its cosignature"};
    }
    if (answer->status == 422) return Caught{"fork", "", request.text(), *answer};
    if (answer->status != 409) {
      return Unavailable{"answered " + std::to_string(answer->status) + ": " +
                         answer->body.substr(0, answer->body.find('\n')).substr(0, 200)};
    }
    auto held = parse_tlog_size(answer->body);
    if (!held) return Unavailable{"expected the size it holds"};
    if (*held > about.size) {
      if (*held <= ledger.size()) return Behind{};
      return Caught{"larger_size", std::to_string(*held), request.text(), *answer};
    }
    if (*held < at.cosigned) return Forgetful{*held};
    if (*held == old_size) return Unavailable{"answered 409 with the size it was asked from"};
    old_size = *held;
  }
  return Unavailable{"its size changed while it was asked"};
}

void WitnessFeeder::Impl::take(size_t at, const Target& about, Outcome outcome) {
  Known& one = known[at];
  if (auto* cosigned = std::get_if<Cosigned>(&outcome)) {
    one.trouble.clear();
    one.done = about.round;
    one.size = std::max(one.size, about.size);
    one.cosigned = std::max(one.cosigned, about.size);
    take_line(at, about, std::move(cosigned->line));
    return;
  }
  if (auto* unavailable = std::get_if<Unavailable>(&outcome)) {
    one.trouble = unavailable->why;
    changed.notify_all();
    return;
  }
  if (std::holds_alternative<Behind>(outcome)) {
    // It has cosigned a later checkpoint, before a crash of ours: that one must be the target.
    one.size = 0;
    if (about.round == target.round) aim();
    return;
  }
  std::string path;
  if (auto* forgetful = std::get_if<Forgetful>(&outcome)) {
    // An old copy of the witness: its word is worth nothing any more, ours is not touched.
    keep(one, "forgetful_witness", std::to_string(forgetful->size), "", {}, path);
    one.excluded = true;
    one.trouble = "it has forgotten what it cosigned and counts no more; see " + path;
    changed.notify_all();
    return;
  }
  auto& caught = std::get<Caught>(outcome);
  keep(one, caught.kind, caught.reported, caught.request, caught.answer, path);
  halt = "the ledger was rolled back or forked: witness " + one.peer.witness.name +
         (caught.kind == "fork" ? " holds another tree than this one"
                                : " holds " + caught.reported + " entries, this ledger has " +
                                      std::to_string(ledger.size())) +
         "; evidence in " + path;
  changed.notify_all();
}

void WitnessFeeder::Impl::take_line(size_t at, const Target& about, NoteSignature line) {
  if (about.round != target.round) return;
  lines.insert_or_assign(at, std::move(line));
  auto note = parse_note(about.note);
  CHECK(note);
  for (const auto& [number, one] : lines) note->signatures.push_back(one);
  auto time = quorum.witnessed_at(*note);
  if (!time) return;
  witnessed = {about.size, encode_note(*note), *time};
  witnessed_from = round_began;
  met = true;
  save();
  aim_if_useful();
  changed.notify_all();
}

void WitnessFeeder::Impl::keep(const Known& at, const std::string& kind,
                               const std::string& reported, const std::string& request,
                               const WitnessAnswer& answer, std::string& path) {
  // What the witness shows to monitors carries the log's own signature: the real proof.
  const auto& origin = ledger.log_key().name();
  auto shown =
      at.peer.exchange("GET", "/" + to_hex(ByteView(sha256(as_bytes(origin)))) + "/checkpoint", "");
  std::string checkpoint = shown && shown->status == 200 ? shown->body : "";
  auto theirs = open_checkpoint(checkpoint, ledger.log_key());
  path = hooks.keep_evidence(
      canonical(Json::Object{{"kind", kind},
                             {"witness", at.peer.witness.name},
                             {"witness_key", at.peer.witness.key.vkey()},
                             {"reported_size", reported},
                             {"cosigned_size", std::to_string(at.cosigned)},
                             {"our_checkpoint", ledger.checkpoint()},
                             {"our_size", std::to_string(ledger.size())},
                             {"request", request},
                             {"answer_status", answer.status},
                             {"answer", answer.body.substr(0, 4096)},
                             {"witness_checkpoint", checkpoint.substr(0, 65536)},
                             {"signed_by_this_log", bool(theirs)}}));
}

void WitnessFeeder::Impl::save() const {
  WitnessedState state{.note = witnessed.note, .sizes = {}};
  for (const auto& one : known) state.sizes[one.peer.witness.key.vkey()] = one.cosigned;
  hooks.keep_state(encode(state));
}

// Everything in it is checked as if a stranger had written it, or is only a hint.
void WitnessFeeder::Impl::restore(ByteView saved) {
  auto state = decode_witnessed_state(saved);
  if (!state) return;
  for (auto& one : known) {
    auto it = state->sizes.find(one.peer.witness.key.vkey());
    if (it == state->sizes.end()) continue;
    one.cosigned = it->second;
    one.size = it->second <= ledger.size() ? it->second : 0;
  }
  auto parsed = parse_note(state->note);
  auto checkpoint = open_checkpoint(state->note, ledger.log_key());
  if (!parsed || !checkpoint || checkpoint->size > ledger.size()) return;
  auto time = quorum.witnessed_at(*parsed);
  if (time) witnessed = {checkpoint->size, state->note, *time};
}

}  // namespace souk::ledger
