# kv739_test(name SOURCES ... LIBS ... [LABELS ...] [TIMEOUT s]): one gtest
# program, registered with ctest as one test named like the program. The name
# of its folder (raft, kv, server, ...) is a label too.
find_package(GTest CONFIG REQUIRED)

# Programs that run under the sanitizers too (./run sanitize): code of ours
# that does not run on gRPC's threads, because Debian's gRPC is built without a
# sanitizer. They get the label `core`; the target core_tests builds them.
set(KV739_CORE_TESTS "^((raft|kv|wal|host|cluster_sim|world_sim)_|client_(routing|session|timer|engine))")
add_custom_target(core_tests)

function(kv739_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  kv739_warnings(${name})
  target_link_libraries(${name} PRIVATE ${T_LIBS} GTest::gmock_main)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  if(KV739_COVERAGE)  # counting takes time
    math(EXPR T_TIMEOUT "4 * ${T_TIMEOUT}")
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  list(APPEND T_LABELS ${folder})
  if(name MATCHES "${KV739_CORE_TESTS}" OR "core" IN_LIST T_LABELS)
    list(APPEND T_LABELS core)
    add_dependencies(core_tests ${name})
  endif()
  list(REMOVE_DUPLICATES T_LABELS)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}")
  if(KV739_SANITIZE MATCHES "thread")
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.txt")
  endif()
endfunction()
