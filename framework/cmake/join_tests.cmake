# cmake -DROOT=... -DOUTPUT=... -DSOURCES=a;b -P join_tests.cmake: writes sources of tests as one, each in a namespace of its own, as they have
# names like those of their neighbours. What the compiler and GoogleTest say names the sources and their lines, from ROOT.
set(joined "")
foreach(source ${SOURCES})
  file(READ ${source} text)
  file(RELATIVE_PATH path ${ROOT} ${source})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE "\nnamespace {\n" "\nnamespace of_${name} { namespace {\n" text "${text}")
  string(REPLACE "\n}  // namespace\n" "\n} }\n" text "${text}")
  string(APPEND joined "#line 1 \"${path}\"\n${text}\n")
endforeach()
file(WRITE ${OUTPUT} "${joined}")
