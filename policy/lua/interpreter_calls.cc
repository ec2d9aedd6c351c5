// What the interpreter asks of the C library, decides once by chance, or says in an error that
// a program could catch, made metered, the same everywhere, and final. The linker puts these in the
// place of the names they wrap (cmake/Externals.cmake); nothing else of the project calls those.
#include <cmath>
#include <cstring>

#include "policy/lua/confined.h"

namespace souk::policy {
namespace {

thread_local Account* paying = nullptr;

}  // namespace

void meter_library_calls(Account* account) {
  paying = account;
}

}  // namespace souk::policy

extern "C" {

double __real_fmod(double a, double b);
double __wrap_fmod(double a, double b);
int __wrap_strcoll(const char* a, const char* b);
void __real__Z16luaE_checkcstackP9lua_State(lua_State* state);
void __wrap__Z16luaE_checkcstackP9lua_State(lua_State* state);
unsigned __wrap__Z9luaS_hashPKcmj(const char* text, size_t size, unsigned seed);

// One subtraction for each bit by which `a` is the longer number.
double __wrap_fmod(double a, double b) {
  using souk::policy::paying;
  if (paying && paying->metering && std::isfinite(a) && std::isfinite(b) && a != 0 && b != 0) {
    int bits = std::ilogb(a) - std::ilogb(b);
    if (bits > 0) paying->pay(1 + static_cast<uint64_t>(bits) / 8);
  }
  return __real_fmod(a, b);
}

// Bytes, not a locale's opinion. Texts are at most 16 kB here.
int __wrap_strcoll(const char* a, const char* b) {
  using souk::policy::paying;
  if (paying && paying->metering) paying->pay(1 + std::strlen(a) / 32);
  return std::strcmp(a, b);
}

// Asked once, for the seed of the string hash, with the time and three addresses. A
// fixed seed makes tables grow at the same insertion in every process; what an attacker
// could gain by knowing it is paid by Account::pay_bytes.
unsigned __wrap__Z9luaS_hashPKcmj(const char*, size_t, unsigned) {
  return 0x736f756b;
}

// Asked by ldo.c where calls of C are 200 deep: pcall in pcall, an order of table.sort that
// sorts, a tostring that formats. Its own answer is an error. The parser's levels do not come
// this way: a text that is too deep does not parse.
void __wrap__Z16luaE_checkcstackP9lua_State(lua_State* state) {
  using souk::policy::paying;
  if (paying && paying->metering && !paying->tripped) paying->stop(souk::policy::limit::kStack);
  __real__Z16luaE_checkcstackP9lua_State(state);
}
}
