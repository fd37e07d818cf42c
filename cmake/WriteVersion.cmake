execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude *
  OUTPUT_VARIABLE REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT REVISION)
  set(REVISION unknown)
endif()
file(WRITE ${OUTPUT}.new "#include \"kv739/version.h\"

namespace kv739 {

const char kVersion[] = \"${VERSION}\";
const char kGitRevision[] = \"${REVISION}\";

}  // namespace kv739
")
file(COPY_FILE ${OUTPUT}.new ${OUTPUT} ONLY_IF_DIFFERENT)
