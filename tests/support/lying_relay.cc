// souk-lying-relay ROLE FOLDER: stands where the host expects souk-enclave. It starts the real one
// and carries every frame between the two, unless a file in FOLDER tells it to lie:
//   die-once, refuse-begin-once, refuse-boot-once   at the next request of that kind (die: of any
//                                                   kind); the file is removed
//   die-at-HEX, refuse-HEX                          whenever this contract is to be decided
//   slow-quotes                                     a quote takes a second more
//   slow-decisions                                  a decision takes 0.3 s more
// FOLDER/started gets one line with the process id of each relay, FOLDER/asked one with the
// contract of each decision that is asked for.
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "trainer/host/process.h"

namespace souk::trainer {
namespace {

namespace fs = std::filesystem;

// Removes the file; false when there was none.
bool once(const fs::path& lie) {
  return fs::remove(lie);
}

Frame refusal() {
  return frame(Kind::kRefused, Json::Object{{"code", code_name(Code::kRefused)},
                                            {"message", "a lie of the relay"}});
}

std::string contract_in(const Frame& request) {
  auto body = expect(request, request.kind);
  const Json* contract = body ? body->find("contract") : nullptr;
  return contract && contract->string() ? *contract->string() : "";
}

int relay(const std::string& role, const fs::path& folder) {
  std::ofstream(folder / "started", std::ios::app) << getpid() << "\n";
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path() / "souk-enclave";
  const bool kept = fcntl(5, F_GETFD) >= 0;
  auto real = EnclaveProcess::start(program.string(), role, "/proc/self/fd/4",
                                    kept ? "/proc/self/fd/5" : "");
  if (!real) return 4;
  Channel host(3);
  std::thread answers([&] {
    while (true) {
      auto answer = (*real)->channel().receive();
      if (!answer || !host.send(*answer)) _exit(0);
    }
  });
  while (true) {
    auto request = host.receive();
    if (!request) _exit(0);
    if (once(folder / "die-once")) _exit(1);
    bool refuse = (request->kind == Kind::kBegin && once(folder / "refuse-begin-once")) ||
                  (request->kind == Kind::kBoot && once(folder / "refuse-boot-once"));
    if (request->kind == Kind::kQuote && fs::exists(folder / "slow-quotes")) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    if (request->kind == Kind::kDecide) {
      std::string contract = contract_in(*request);
      std::ofstream(folder / "asked", std::ios::app) << contract << "\n";
      if (fs::exists(folder / ("die-at-" + contract))) _exit(1);
      refuse = fs::exists(folder / ("refuse-" + contract));
      if (fs::exists(folder / "slow-decisions")) {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
      }
    }
    if (!(refuse ? host.send(refusal()) : (*real)->channel().send(*request))) _exit(0);
  }
}

}  // namespace
}  // namespace souk::trainer

int main(int argc, char** argv) {
  return argc == 3 ? souk::trainer::relay(argv[1], argv[2]) : 2;
}
