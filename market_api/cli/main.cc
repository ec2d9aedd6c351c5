// souk: the command line of providers, consumers and auditors. What the accountant of privacy is
// asked is answered here: it needs no network, no ledger and no engine, and loading the libraries
// of those takes longer than most of its answers. Everything else is souk-client's, beside it.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "market_api/cli/privacy_verbs.h"

namespace souk::market {
namespace {

// `privacy` and a verb that is here, with no option before them but --json.
bool asks_accountant(int argc, char** argv) {
  std::vector<std::string> words;
  for (int i = 1; i < argc && words.size() < 2; ++i) {
    if (argv[i] != std::string_view("--json")) words.emplace_back(argv[i]);
  }
  if (words.size() < 2 || words[0] != "privacy") return false;
  CLI::App app;
  CommandLine line;
  auto named = [&](CLI::App* verb) { return verb->get_name() == words[1]; };
  return !add_privacy_verbs(app, line)->get_subcommands(named).empty();
}

// Never a program of another folder, nor this one again.
int become_client(int argc, char** argv) {
  const bool json = asks_for_json(argc, argv);
  auto failed = [json](const std::string& what) {
    return static_cast<int>(
        print(Error(Code::kBroken, "expected " + what + ": " + std::strerror(errno)), json));
  };
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
  if (length == static_cast<ssize_t>(sizeof self)) errno = ENAMETOOLONG;
  if (length <= 0 || length == static_cast<ssize_t>(sizeof self) || self[0] != '/')
    return failed("to read where this program is, /proc/self/exe");
  std::string client(self, static_cast<size_t>(length));
  client = client.substr(0, client.rfind('/') + 1) + "souk-client";
  struct stat mine = {}, its = {};
  if (stat("/proc/self/exe", &mine) == 0 && stat(client.c_str(), &its) == 0 &&
      mine.st_dev == its.st_dev && mine.st_ino == its.st_ino) {
    errno = ELOOP;
    return failed(client + " to be another program");
  }
  execv(client.c_str(), argv);
  return failed("to start " + client);
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  using namespace souk::market;
  try {
    if (!asks_accountant(argc, argv)) return become_client(argc, argv);
  } catch (const std::exception& error) {
    return internal_fault(error, asks_for_json(argc, argv));
  }
  CommandLine line;
  return run_verb(argc, argv, line, [&line](CLI::App& app) { add_privacy_verbs(app, line); });
}
