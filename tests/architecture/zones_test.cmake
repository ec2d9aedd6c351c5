# Run with cmake -D SOURCE=<tree> -D WORK=<empty folder> -P: for every pair of zones,
# configures a two-room project, and expects it to work or to be refused as written here.
cmake_minimum_required(VERSION 3.25)

set(zones pure sys storage net enclave host client)
set(allowed
  pure-pure sys-sys sys-pure storage-storage storage-pure net-net net-pure
  enclave-enclave enclave-pure enclave-sys
  host-host host-pure host-sys host-storage host-net
  client-client client-pure client-sys client-storage client-net)

function(configure name declarations)
  file(REMOVE_RECURSE ${WORK}/${name})
  file(WRITE ${WORK}/${name}/CMakeLists.txt
    "cmake_minimum_required(VERSION 3.25)\nproject(tiny LANGUAGES NONE)\n"
    "include(${SOURCE}/cmake/Zones.cmake)\n${declarations}\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -G Ninja -S ${WORK}/${name} -B ${WORK}/${name}/build
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  string(REGEX REPLACE "[ \n]+" " " output "${output}")  # CMake wraps its messages
  set(status ${status} PARENT_SCOPE)
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(expect_refusal name declarations message)
  configure(${name} "${declarations}")
  if(status EQUAL 0)
    message(SEND_ERROR "${name}: expected the configure step to stop")
  endif()
  string(FIND "${output}" "${message}" at)
  if(at EQUAL -1)
    message(SEND_ERROR "${name}: expected the message '${message}', got: ${output}")
  endif()
endfunction()

set(good "")
foreach(from IN LISTS zones)
  foreach(to IN LISTS zones)
    set(rooms "souk_room(below_${from}_${to} ZONE ${to})\nsouk_room(above_${from}_${to} ZONE ${from} DEPS below_${from}_${to})\n")
    if("${from}-${to}" IN_LIST allowed)
      string(APPEND good "${rooms}")
    else()
      expect_refusal(${from}-${to} "${rooms}"
        "above_${from}_${to} (${from}) must not depend on below_${from}_${to} (${to}); see ARCHITECTURE.md, Zones")
    endif()
  endforeach()
endforeach()
configure(good "${good}")
if(NOT status EQUAL 0)
  message(SEND_ERROR "expected every allowed arrow to configure, got: ${output}")
endif()

expect_refusal(stranger "souk_room(a ZONE pure DEPS b)" "b is not a souk room")
expect_refusal(zoneless "add_library(b INTERFACE)\nsouk_room(a ZONE pure DEPS b)" "b has no zone")
expect_refusal(invented "souk_room(a ZONE heaven)" "ZONE must be one of")
expect_refusal(external "souk_external(b storage)\nsouk_room(a ZONE pure DEPS b)"
  "a (pure) must not depend on b (storage)")
