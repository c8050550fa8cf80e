# Warnings, sanitizers and the compiler cache, for our targets only: link them to dovetail_options.
add_library(dovetail_options INTERFACE)
target_compile_options(
  dovetail_options
  INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wnon-virtual-dtor;-Werror>)
# Members that a designated initializer leaves out have their defaults.
target_compile_options(dovetail_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  # Takes every reference that a function with a temporary argument returns for one to the temporary.
  target_compile_options(dovetail_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-dangling-reference>)
endif()
target_include_directories(dovetail_options INTERFACE ${CMAKE_SOURCE_DIR})

if(DOVETAIL_SANITIZE)
  string(REPLACE ";" "," sanitizers "${DOVETAIL_SANITIZE}")
  target_compile_options(dovetail_options INTERFACE -fsanitize=${sanitizers} -fno-omit-frame-pointer
                                                    -fno-sanitize-recover=all)
  target_link_options(dovetail_options INTERFACE -fsanitize=${sanitizers})
endif()

if(DOVETAIL_FUZZ) # the project is built without warnings by GCC; clang has others
  target_compile_options(dovetail_options INTERFACE -w -fsanitize=fuzzer-no-link)
endif()

find_program(DOVETAIL_CCACHE ccache)
if(DOVETAIL_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DOVETAIL_CCACHE})
endif()
