# find_package(kv739): the target kv739::739kv.
include(${CMAKE_CURRENT_LIST_DIR}/kv739Targets.cmake)
