# Writes OUTPUT (a .cpp file) with the git revision of SOURCE_DIR, only when it changed. Run at each build.
execute_process(
  COMMAND git -c safe.directory=* describe --always --dirty --abbrev=12
  WORKING_DIRECTORY ${SOURCE_DIR}
  OUTPUT_VARIABLE revision
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT revision)
  set(revision "unknown")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#include \"framework/record/run_info.hpp\"\n\nnamespace dovetail {\n\nconst char* git_revision() {\n  return \"${revision}\";\n}\n\n}  // namespace dovetail\n")
