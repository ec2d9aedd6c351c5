// Integrals of smooth pieces, and normal masses in which nothing cancels.
#pragma once

#include <array>
#include <cstddef>

namespace souk::policy {

// Gauss-Legendre rules on [-1, 1], positive half.
struct Node {
  double at, weight;
};
inline constexpr std::array<Node, 2> kRule4 = {
    {{0.3399810435848563, 0.6521451548625461}, {0.8611363115940526, 0.3478548451374538}}};
inline constexpr std::array<Node, 4> kRule8 = {{{0.1834346424956498, 0.3626837833783620},
                                                {0.5255324099163290, 0.3137066458778873},
                                                {0.7966664774136267, 0.2223810344533745},
                                                {0.9602898564975363, 0.1012285362903763}}};

// Over what lies within `half` of `middle`.
template <size_t N, class F>
double integral_around(const std::array<Node, N>& rule, double middle, double half, F&& f) {
  double sum = 0;
  for (const Node& node : rule)
    sum += node.weight * (f(middle - half * node.at) + f(middle + half * node.at));
  return sum * half;
}
template <size_t N, class F>
double integral(const std::array<Node, N>& rule, double from, double to, F&& f) {
  return integral_around(rule, 0.5 * (from + to), 0.5 * (to - from), f);
}

// Density of the standard normal, and its mass in (from, to], ends `width` apart: of places next to
// each other the width is known better than by their difference. Off by no more than 8e-15 + 5e-16
// z^2, relatively, z being the place in it nearest to zero; 5e-16 z^2 is what rounding z does.
double normal_density(double z);
double normal_between(double from, double to, double width);

// The Mills ratio Phi(-z) / phi(z), by its continued fraction from 4 on.
double mills(double z);

}  // namespace souk::policy
