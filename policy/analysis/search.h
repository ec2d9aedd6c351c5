// Looks for questions that take a policy where it has not been. Guided by what its
// conditions compared: constants, places where an input shows up in a comparison
// (Aschermann et al., "REDQUEEN", NDSS 2019), and the slope of the difference of two
// sides along each input (Chen and Chen, "Angora", IEEE S&P 2018). Deterministic in
// its seed and the number of evaluations.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "policy/analysis/probe.h"

namespace souk::policy::analysis {

// Several policies asked together, as one subject of a search.
struct Subject {
  virtual ~Subject() = default;
  // Whether the point is one of those the search should stay among where it can
  // ("the invariant's right side is broken", "the two disagree"): explored on its own.
  struct Outcome {
    bool special = false;
    bool goal = false;     // worth showing to `found`
    uint32_t variant = 0;  // of the answer, for diversity
  };
  virtual Outcome run(const Point& point, std::vector<Event>& events) = 0;
};

class Search {
 public:
  // `found` answers whether to stop.
  using Found = std::function<bool(const Point&)>;
  using Stop = std::function<bool()>;
  Search(const Space& space, Subject& subject, uint32_t sites, std::vector<int64_t> integers,
         std::vector<std::string> texts, uint64_t seed);

  // What is optional is also left away: for policies that go on without it.
  void leave_away() { leaves_away_ = true; }

  // True when `found` said so. Otherwise `stop` did, or `evaluations` ran out.
  bool run(const Found& found, const Stop& stop, uint64_t evaluations);

  uint64_t evaluations() const { return evaluations_; }
  bool reached(uint32_t site, bool outcome) const;
  const std::vector<Point>& corpus() const { return corpus_points_; }

 private:
  struct Note {  // an event that outlives its run
    Event event;
    std::string left, right;
  };
  struct Task {
    uint32_t site;
    bool want;
    bool special;
    uint32_t tries = 0;
  };
  struct Place {  // of a text or an integer among the slots
    uint32_t slot;
    int32_t block = -1, member = -1, item = -1;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct Over {};  // thrown when the search ends within a step

  // search.cc
  const Subject::Outcome& evaluate(const Point& point);
  void keep(const Point& point, const Subject::Outcome& outcome, bool fresh);
  void seed_corpus();
  void seed_absences();
  void havoc();
  void mutate(Point& point);
  bool work_on_frontier();
  void flip_something();
  size_t pick_entry();
  uint64_t below(uint64_t bound) { return random_() % bound; }
  int64_t some_integer(int64_t now);
  std::string some_text(const std::string& now);
  void add_text(const std::string& text);

  // solve.cc: from `point`, make the occurrence of `site` come out as `want`.
  bool solve(const Point& point, uint32_t site, bool want, uint64_t budget, int depth);
  bool attempt(Point candidate);
  bool presence(const Point& point);
  bool direct(const Point& point, const Note& note);
  bool slopes(const Point& point, const Note& note);
  bool two_integers(const Point& point, const std::vector<Place>& steep, double aim);
  bool text_number(const Point& point, const Place& place, const Note& note);
  bool text_shape(const Point& point, const Place& place, const Note& note);
  bool lists(const Point& point, const Note& note);
  bool by_other_conditions(const Point& point, const Note& note, int depth);
  std::vector<Place> places(const Point& point, bool texts) const;
  static std::string& text_at(Point& point, const Place& place);
  static int64_t& integer_at(Point& point, const Place& place);
  double distance() const;  // of the watched occurrence in the last run; NaN when not there
  std::vector<double> aims(const Note& note) const;
  const Event* watched() const;

  const Space& space_;
  Subject& subject_;
  std::mt19937_64 random_;
  std::vector<int64_t> integers_;
  std::vector<std::string> texts_;
  std::vector<Point> corpus_points_;
  std::vector<uint8_t> corpus_special_;
  std::unordered_set<uint64_t> paths_;
  std::vector<int32_t> seen_;  // by site, outcome, special: an entry, or -1
  std::vector<Task> tasks_;
  std::unordered_set<uint64_t> known_tasks_;
  size_t next_task_ = 0;
  std::vector<Event> events_;
  Subject::Outcome outcome_;
  Point last_;
  const Found* found_ = nullptr;
  const Stop* stop_ = nullptr;
  uint64_t evaluations_ = 0, most_ = 0, budget_end_ = 0;
  uint32_t watch_site_ = 0, watch_index_ = 0;
  bool want_ = false, solved_ = false;
  bool over_ = false, leaves_away_ = false;
};

}  // namespace souk::policy::analysis
