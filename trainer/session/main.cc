// souk-enclave keeper | trainer: one measured program, two roles. Started by soukd
// with descriptor 3, the channel, descriptor 4, the key of the simulated platform, and, for a
// trainer, perhaps descriptor 5, the file that its run's sealed state is kept in. It reads no
// environment variable and no argument but its role (and --json, for those who start it by hand).
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "ledger/codec/json.h"
#include "ledger/crypto/hash.h"
#include "policy/jail/jail.h"
#include "policy/jail/worker.h"
#include "trainer/engine/engine.h"
#include "trainer/keeper/keeper.h"
#include "trainer/pipe/shared_file.h"
#include "trainer/session/session.h"

namespace souk::trainer {
namespace {

constexpr int kChannelFd = 3;
constexpr int kPlatformFd = 4;
constexpr int kStateFd = 5;

// Calls piece(bytes) for what is left of the file, from first to last.
template <class Piece>
Status read_pieces(int fd, const Piece& piece) {
  uint8_t buffer[65536];
  while (true) {
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0) return Error(Code::kBroken, "expected to read a descriptor");
    if (n == 0) return Done{};
    piece(ByteView(buffer, static_cast<size_t>(n)));
  }
}

// Whether the channel is a socket and the platform's key a file, as soukd hands them over.
bool started_by_soukd() {
  struct stat channel {
  }, key{};
  return fstat(kChannelFd, &channel) == 0 && S_ISSOCK(channel.st_mode) &&
         fstat(kPlatformFd, &key) == 0 && S_ISREG(key.st_mode);
}

// On stdout, written through: false when it could not be.
bool say(const std::string& text) {
  bool written = std::puts(text.c_str()) >= 0 && std::fflush(stdout) == 0;
  if (!written) std::fputs("souk-enclave: expected to write to standard output\n", stderr);
  return written;
}

Result<ledger::SigningKey> read_platform() {
  Bytes seed;
  TRY(read_pieces(kPlatformFd, [&](ByteView piece) { append(seed, piece); }));
  close(kPlatformFd);
  return ledger::SigningKey::from_seed(seed);
}

// SHA-256 of the running program, as genesis lists it.
Result<Digest> measure() {
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return Error(Code::kBroken, "expected /proc/self/exe");
  ledger::Sha256 digest;
  auto hashed = read_pieces(fd, [&](ByteView piece) { digest.update(piece); });
  close(fd);
  if (!hashed) return std::move(hashed).take_error();
  return digest.finish();
}

Result<std::string> confine(policy::JailProfile profile, std::vector<int> keep) {
  policy::LockDown options;
  options.profile = profile;
  options.keep_fds = std::move(keep);
  auto report = TRY(policy::lock_down(options));
  return report.claim();
}

// No policy can be asked any more. To sign that as the policy's fault could not be taken back, so
// this keeper says nothing: the host starts another, and what was asked is asked again.
[[noreturn]] void end_without_jail() {
  std::fputs("souk-enclave keeper: expected a living nursery for policies; ends\n", stderr);
  std::_Exit(4);
}

Status run_keeper() {
  auto platform = TRY(read_platform());
  auto measurement = TRY(measure());
  auto nursery = TRY(policy::start_lua_nursery());
  auto sandbox = TRY(confine(policy::JailProfile::kEnclave,
                             {0, 1, 2, kChannelFd, nursery->fds()[0], nursery->fds()[1]}));
  EnclaveSelf self{std::move(platform), measurement, sandbox};
  Channel channel(kChannelFd);
  Keeper keeper(self, [&](std::string_view source, const Json& request, const Json& dataset,
                          const Json& context) {
    auto decision = policy::evaluate_jailed(*nursery, source, request, dataset, context);
    if (nursery->gone()) end_without_jail();
    return decision;
  });
  return keeper.serve(channel);
}

Status run_one_job() {
  auto platform = TRY(read_platform());
  auto measurement = TRY(measure());
  auto workers = TRY(Workers::start(std::max(1u, std::thread::hardware_concurrency())));
  TRY(warm_up(*workers));
  std::optional<SharedFile> state;  // mapped: lock-down closes the descriptor
  if (fcntl(kStateFd, F_GETFD) >= 0) state.emplace(TRY(SharedFile::map(kStateFd)));
  auto sandbox = TRY(confine(policy::JailProfile::kTrainer, {0, 1, 2, kChannelFd}));
  EnclaveSelf self{std::move(platform), measurement, sandbox};
  Channel channel(kChannelFd);
  return run_trainer(channel, self, *workers, state ? state->bytes() : std::span<uint8_t>());
}

}  // namespace
}  // namespace souk::trainer

int main(int argc, char** argv) {
  using namespace souk;
  constexpr char kUse[] = "souk-enclave keeper|trainer: started by soukd, not by hand";
  std::string role;
  bool json = false, one = true;
  for (int i = 1; i < argc; ++i) {
    std::string_view word = argv[i];
    if (word == "--json") {
      json = true;
    } else {
      one = role.empty();
      role = word;
    }
  }
  bool version = one && role == "--version", help = one && (role == "--help" || role == "-h");
  if (version || help) {
    Json said = version ? Json(Json::Object{{"version", SOUK_VERSION}})
                        : Json(Json::Object{{"help", kUse}});
    std::string text = json      ? canonical(said)
                       : version ? std::string("souk-enclave ") + SOUK_VERSION
                                 : std::string(kUse);
    return trainer::say(text) ? 0 : 3;
  }
  bool known = one && (role == "keeper" || role == "trainer");
  if (!known || !trainer::started_by_soukd()) {
    std::fprintf(stderr, "%s\n", kUse);
    Json said = Json::Object{
        {"error", Json::Object{{"code", code_name(Code::kMalformed)}, {"message", kUse}}}};
    if (json) trainer::say(canonical(said));
    return 2;
  }
  auto ended = role == "keeper" ? trainer::run_keeper() : trainer::run_one_job();
  if (ended || ended.error().code() == Code::kTryAgain) return 0;  // the host closed the channel
  // The code alone: a message could tell about data.
  std::fprintf(stderr, "souk-enclave %s: %s\n", role.c_str(), code_name(ended.error().code()));
  return 4;
}
