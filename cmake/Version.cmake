# kv739_version: a small library whose one source is written again on every
# build, so that --version names the revision that was built and not the one
# that was configured.
set(KV739_VERSION_SOURCE ${PROJECT_BINARY_DIR}/generated/version.cc)
add_custom_target(kv739_version_source
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${KV739_VERSION_SOURCE} -DVERSION=${PROJECT_VERSION}
          -DSOURCE=${PROJECT_SOURCE_DIR} -P ${PROJECT_SOURCE_DIR}/cmake/WriteVersion.cmake
  BYPRODUCTS ${KV739_VERSION_SOURCE}
  COMMENT "Noting the git revision")
add_library(kv739_version STATIC ${KV739_VERSION_SOURCE})
add_dependencies(kv739_version kv739_version_source)
target_include_directories(kv739_version PUBLIC ${PROJECT_SOURCE_DIR}/cmake/include)
