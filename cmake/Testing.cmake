# kv739_test(name SOURCES ... LIBS ... [LABELS ...] [TIMEOUT s]): one gtest
# program, registered with ctest as one test named like the program.
find_package(GTest CONFIG REQUIRED)
function(kv739_test name)
  cmake_parse_arguments(T "" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(${name} ${T_SOURCES})
  kv739_warnings(${name})
  target_link_libraries(${name} PRIVATE ${T_LIBS} GTest::gmock_main)
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}")
endfunction()
