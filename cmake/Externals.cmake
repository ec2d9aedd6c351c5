# Third-party libraries and the zone each may be used from. The include test
# (tests/architecture) checks that each has one door.
find_package(PkgConfig REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(SODIUM REQUIRED IMPORTED_TARGET libsodium)
pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(ZLIB REQUIRED IMPORTED_TARGET zlib)
pkg_check_modules(LUA REQUIRED IMPORTED_TARGET lua5.4-c++)
# The archive, not the shared library: policy/lua/interpreter_calls.cc stands in for four
# functions that it calls, which the linker can only do inside of one program.
find_library(LUA_ARCHIVE liblua5.4-c++.a REQUIRED)
add_library(souk_lua UNKNOWN IMPORTED)
set_target_properties(souk_lua PROPERTIES
  IMPORTED_LOCATION ${LUA_ARCHIVE} INTERFACE_INCLUDE_DIRECTORIES "${LUA_INCLUDE_DIRS}"
  INTERFACE_LINK_LIBRARIES "m;${CMAKE_DL_LIBS}"
  INTERFACE_LINK_OPTIONS "LINKER:--wrap=fmod,--wrap=strcoll,--wrap=_Z9luaS_hashPKcmj,--wrap=_Z16luaE_checkcstackP9lua_State")
find_package(CLI11 REQUIRED)
find_package(cpprestsdk REQUIRED)
# oneDNN without its own CMake package, which asks for OpenCL headers that nothing here uses.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
add_library(souk_dnnl UNKNOWN IMPORTED)
set_target_properties(souk_dnnl PROPERTIES
  IMPORTED_LOCATION ${DNNL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})

souk_external(ext_threads pure Threads::Threads)
souk_external(ext_crypto pure OpenSSL::Crypto)
souk_external(ext_sodium pure PkgConfig::SODIUM)
souk_external(ext_zlib pure PkgConfig::ZLIB)
souk_external(ext_lua pure souk_lua)
souk_external(ext_dnnl pure souk_dnnl gomp)  # gomp: oneDNN's threads, which we hold at one
souk_external(ext_seccomp sys PkgConfig::SECCOMP)
souk_external(ext_sqlite storage PkgConfig::SQLITE)
souk_external(ext_cpprest net cpprestsdk::cpprest OpenSSL::SSL OpenSSL::Crypto)  # its headers call OpenSSL
# ONNX's own messages (libonnx_proto) over protobuf; their headers ask for these two names.
pkg_check_modules(PROTOBUF REQUIRED IMPORTED_TARGET protobuf)
find_path(ONNX_INCLUDE_DIR onnx/onnx_pb.h REQUIRED)
find_library(ONNX_PROTO_LIBRARY onnx_proto REQUIRED)
add_library(souk_onnx UNKNOWN IMPORTED)
set_target_properties(souk_onnx PROPERTIES
  IMPORTED_LOCATION ${ONNX_PROTO_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${ONNX_INCLUDE_DIR}
  INTERFACE_COMPILE_DEFINITIONS "ONNX_NAMESPACE=onnx;ONNX_ML=1")
souk_external(ext_onnx client souk_onnx PkgConfig::PROTOBUF)
souk_external(ext_cli11 sys CLI11::CLI11)
