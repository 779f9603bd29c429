# DELTATAPE_PORTABLE: the library is shared and compiled twice, for x86-64-v3 (AVX2) and for x86-64-v4 (AVX-512). The
# second stands in glibc-hwcaps/x86-64-v4 beside the first, under the same name, and the dynamic loader of glibc 2.33 and
# later takes it where the processor allows. docs/architecture.md says why it is done like this.
# Sets `portable`: whether that is wanted and possible here.

include(CheckCXXCompilerFlag)
include(CheckCXXSourceCompiles)
include(CheckLinkerFlag)

set(portable OFF)
if(DELTATAPE_PORTABLE)
  check_cxx_source_compiles("
    #include <features.h>
    #if !defined(__x86_64__) || !defined(__linux__) || !__GLIBC_PREREQ(2, 33)
    #error
    #endif
    int main() {}" DELTATAPE_HAVE_HWCAPS_FOLDERS)
  check_cxx_compiler_flag(-march=x86-64-v4 DELTATAPE_HAVE_march_x86_64_v4)
  if(DELTATAPE_HAVE_HWCAPS_FOLDERS AND DELTATAPE_HAVE_march_x86_64_v4)
    set(portable ON)
  else()
    message(STATUS "DELTATAPE_PORTABLE needs x86-64, glibc 2.33 and a compiler that knows -march=x86-64-v4: "
                   "building one library instead, as with DELTATAPE_NATIVE=OFF.")
  endif()
endif()

if(portable)
  set(portable_base x86-64-v3)
  set(portable_best x86-64-v4)
  set(hwcaps_folder glibc-hwcaps/${portable_best})
  # On an older processor the loader then says so, where the program would die of SIGILL.
  check_linker_flag(CXX LINKER:-z,${portable_base} DELTATAPE_HAVE_LINKER_ISA)
  # Libraries are found relative to the program, so that a tree can be moved.
  set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
  file(RELATIVE_PATH lib_from_bin ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set(CMAKE_INSTALL_RPATH $ORIGIN/${lib_from_bin})
endif()

# deltatape_bind_inside(TARGET): a shared library that uses its own definitions only, inline functions and templates
# included. Others that go by the same names, say in a program that includes an internal header, mean another width of
# registers. STB_GNU_UNIQUE would be exempt from -Bsymbolic.
function(deltatape_bind_inside target)
  check_cxx_compiler_flag(-fno-gnu-unique DELTATAPE_HAVE_no_gnu_unique)
  target_compile_options(${target} PRIVATE
    -fno-semantic-interposition $<$<BOOL:${DELTATAPE_HAVE_no_gnu_unique}>:-fno-gnu-unique>)
  target_link_options(${target} PRIVATE LINKER:-Bsymbolic)
endfunction()
