// Who somebody is on this machine, and which market they trust. Format:
// market_api/SPEC.md, Home.
//
//   HOME/default                       name of the identity used without --as
//   HOME/identities/NAME/key.json      0600: Ed25519 seed and age identity
//   HOME/identities/NAME/market.json   the pinned market: url, id, ledger key
//   HOME/identities/NAME/ledger/       what market_view.h keeps
//   HOME/identities/NAME/offered/      the dataset that was made of some rows, by a keyed hash
//   HOME/identities/NAME/credentials/  DSSE envelopes, named by their SHA-256
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ledger/base/named.h"
#include "ledger/crypto/sign.h"
#include "trainer/data/age.h"

namespace souk::market {

struct MarketPin {
  std::string url;
  MarketId market;
  std::string ledger_key;           // vkey of genesis
  std::string witness_policy = {};  // tlog-policy whose quorum every checkpoint must have, or ""
  friend bool operator==(const MarketPin&, const MarketPin&) = default;
};

class Identity {
 public:
  const std::string& name() const { return name_; }
  const std::string& directory() const { return directory_; }
  const MarketPin& pin() const { return pin_; }
  const ledger::SigningKey& key() const { return key_; }
  const trainer::AgeIdentity& age() const { return age_; }
  PublicKey account() const { return key_.public_key(); }
  std::string recipient() const { return trainer::recipient_text(age_.recipient()); }

 private:
  friend class Home;
  Identity(std::string name, std::string directory, MarketPin pin, ledger::SigningKey key,
           trainer::AgeIdentity age)
      : name_(std::move(name)),
        directory_(std::move(directory)),
        pin_(std::move(pin)),
        key_(std::move(key)),
        age_(std::move(age)) {}

  std::string name_;
  std::string directory_;
  MarketPin pin_;
  ledger::SigningKey key_;
  trainer::AgeIdentity age_;
};

class Home {
 public:
  // The folder need not exist yet.
  explicit Home(std::string directory) : directory_(std::move(directory)) {}

  const std::string& directory() const { return directory_; }
  std::string directory_of(const std::string& name) const;
  std::vector<std::string> names() const;
  // The name to use without --as; kNotFound says how to make one.
  Result<std::string> default_name() const;

  // New keys, on disk when it returns; the first one becomes the default.
  // kMalformed: the name is not 1-64 of A-Z a-z 0-9 . _ - ; kConflict: it is taken.
  Result<Identity> create(const std::string& name, const MarketPin& pin);
  // The identity now asks the market it has pinned at the URL of `pin`; all else stays. kConflict:
  // it pins another market, ledger key or witness policy.
  Result<Identity> move(const std::string& name, const MarketPin& pin);
  // By name, or the default one. kNotFound when there is none.
  Result<Identity> open(const std::optional<std::string>& name) const;

 private:
  std::string directory_;
};

// --home, else $SOUK_HOME, else $XDG_DATA_HOME/souk, else ~/.souk.
struct HomeHints {
  std::optional<std::string> flag, souk_home, xdg_data_home, user_home;
};
Result<Home> find_home(const HomeHints& hints);

// A file with one Ed25519 seed as 64 hex digits and a newline.
Result<ledger::SigningKey> load_signing_key(const std::string& path);
Status save_signing_key(const std::string& path, const ledger::SigningKey& key);

}  // namespace souk::market
