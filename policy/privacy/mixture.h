// Many normals of one deviation at equally spaced means: what noise makes of a binomial number of
// rows. A term over its neighbour is a product of three numbers that are known beforehand, and
// these ratios fall from term to term, so that a value costs two exponentials and a few products
// for each term that can be seen, not an exponential for each term. policy/SPEC.md, Privacy,
// Accountant.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace souk::policy {

class Mixture {
 public:
  // Three weights or more, adding up to 1, of the means first, first + 1, ...: above zero, and
  // log-concave, as binomial ones are.
  Mixture(double sigma, uint32_t first, std::vector<double> weights);

  // log of the mixture over N(0, sigma^2) and its first two derivatives, at x. Right to some forty
  // roundings of what a rounding of |x| + sigma moves it by, and of itself.
  struct Ratio {
    double log = 0, slope = 0, bend = 0;
  };
  Ratio ratio(double x) const;
  // Density over that of the standard normal of deviation sigma: log of the mixture's own.
  double log_density(double x) const;

  // A place, and what was found there.
  struct Place {
    double x = 0;
    Ratio of{};
    bool known = false;
  };
  // Where log of ratio() is `value`: -infinity if below all. `near` starts the search, best from
  // the place before, and becomes the place.
  double where(double value, Place& near) const;

  // Of (from, to], and by how much it may be off, relatively.
  struct Mass {
    double value = 0, error = 0;
  };
  Mass between(double from, double to) const;

 private:
  struct Sums;
  struct Piece;
  double mean(size_t i) const { return first_ + static_cast<double>(i); }
  // The term that is the greatest at x.
  size_t top_at(double x) const;
  // Calls visit(i - top, term i over term top) for all terms from `least` on that can be seen at a
  // place `off` from the mean of `top`, the greatest of these. How many there were.
  template <class Visit>
  size_t walk(size_t least, size_t top, double off, Visit&& visit) const;
  Sums sums(size_t least, size_t top, double off) const;
  Ratio near_one(double x) const;
  Mass term_by_term(double from, double to) const;
  Piece piece(double from, double to) const;

  double sigma_, inverse_;  // 1 / sigma^2
  double first_;
  double rest_ = 0;      // weight of all terms but the first
  double usual_ = 0;     // mean of the means
  double log_base_ = 0;  // log of the first of ratio_
  size_t mode_ = 0;      // the greatest weight
  std::vector<double> weight_, log_weight_;
  std::vector<double> ratio_;      // weight i + 1 over weight i
  std::vector<double> up_, down_;  // the same over the first of them, and 1 over that
  std::vector<double> turn_;       // from where on term i + 1 is greater than term i
  std::vector<double> fall_;       // exp(-l / sigma^2), by which ratios fall over l terms
  std::vector<double> drop_;       // the same less 1
};

}  // namespace souk::policy
