# Language level, warnings and sanitizers for everything of ours. Generated code
# and headers of other projects are exempt from the warnings.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# RelWithDebInfo keeps assert(): a broken invariant stops the process in
# production too. Line tables are enough for a stack trace or a flame graph.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -fno-omit-frame-pointer")
set(CMAKE_CXX_FLAGS_DEBUG "-O1 -g1 -fno-omit-frame-pointer")

set(KV739_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
if(KV739_SANITIZE)
  # gcc's manual: sanitizers make its warnings of uninitialized values fire
  # where nothing is wrong. The other builds have them as errors.
  add_compile_options(-fsanitize=${KV739_SANITIZE} -fno-sanitize-recover=all
    $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${KV739_SANITIZE})
endif()

# ./run coverage. A little optimization: without any the longest tests take
# minutes, with more of it lines are merged.
option(KV739_COVERAGE "Count the lines that run" OFF)
if(KV739_COVERAGE)
  add_compile_options(--coverage -Og)
  add_link_options(--coverage)
endif()

# ./run fuzz: the programs of tests/fuzz get a main function of libFuzzer's.
option(KV739_FUZZ "Build the fuzzers; needs clang" OFF)

find_program(KV739_CCACHE ccache)
if(KV739_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KV739_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${KV739_CCACHE})
endif()

find_program(KV739_LLD ld.lld)
if(KV739_LLD)
  add_link_options(-fuse-ld=lld)
endif()

# kv739_library(name sources...): a static library of ours under full warnings.
# Sources include each other by path from the top, "raft/core.h".
function(kv739_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
    -Woverloaded-virtual -Wunused -Wimplicit-fallthrough -Wno-missing-field-initializers -Werror)
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
endfunction()

function(kv739_library name)
  add_library(${name} STATIC ${ARGN})
  kv739_warnings(${name})
endfunction()
