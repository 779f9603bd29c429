# deltatape_compile_options(TARGET): warnings and host tuning for one of our own targets, never for its users.
# Programs in this tree are tuned like the library: xsimd's default architecture follows -march, and an inline
# kernel helper that two translation units compile for different architectures would break the one-definition rule.

include(CheckCXXCompilerFlag)

set(march_flag "")
if(portable)
  set(march_flag -march=${portable_base})
elseif(DELTATAPE_NATIVE AND NOT DELTATAPE_PORTABLE)
  set(march_flag -march=native)
elseif(DELTATAPE_MARCH AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(march_flag -march=${DELTATAPE_MARCH})
endif()
if(march_flag)
  string(MAKE_C_IDENTIFIER "DELTATAPE_HAVE_${march_flag}" march_check)
  check_cxx_compiler_flag(${march_flag} ${march_check})
  if(NOT ${march_check})
    message(WARNING "This compiler does not know ${march_flag}: building without it, so slower.")
    set(march_flag "")
  endif()
endif()

set(warning_flags -Wall -Wextra -Wpedantic -Wconversion -Wshadow)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # GCC's -Wconversion leaves signedness out for C++; sizes are int64_t here and size_t in the standard library.
  list(APPEND warning_flags -Wno-sign-conversion)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Fire inside GCC's own AVX-512 intrinsics wherever xsimd is inlined.
  list(APPEND warning_flags -Wno-maybe-uninitialized -Wno-uninitialized)
endif()
if(DELTATAPE_WERROR)
  list(APPEND warning_flags -Werror)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # Flow-based warnings depend on inlining and are often wrong about std::vector: shown, never fatal.
    list(APPEND warning_flags -Wno-error=array-bounds -Wno-error=stringop-overflow
         -Wno-error=stringop-overread -Wno-error=restrict)
  endif()
endif()

if(DELTATAPE_SANITIZE_TWIN AND DELTATAPE_SANITIZE MATCHES "thread")
  message(FATAL_ERROR "DELTATAPE_SANITIZE_TWIN is on, expected off with DELTATAPE_SANITIZE=${DELTATAPE_SANITIZE}")
endif()
if(DELTATAPE_SANITIZE)
  # Directory-wide, since every object of a program must agree; any finding ends the program.
  add_compile_options(-fsanitize=${DELTATAPE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${DELTATAPE_SANITIZE})
endif()

# deltatape_compile_options(TARGET [ISA]): for x86-64-vN where ISA says so, and not for what the build is for in general.
# nvcc gets flags of its own (cmake/cuda.cmake).
function(deltatape_compile_options target)
  set(isa "${ARGN}")
  if(isa)
    set(march_flag -march=${isa})
  elseif(portable)
    set(isa ${portable_base})
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${warning_flags};${march_flag}>")
  if(isa AND DELTATAPE_HAVE_LINKER_ISA)
    target_link_options(${target} PRIVATE LINKER:-z,${isa})
  endif()
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
endfunction()

# deltatape_plain(TARGET): without what DELTATAPE_SANITIZE adds. Plugins come from elsewhere and are loaded by whatever
# build there is.
function(deltatape_plain target)
  set_target_properties(${target} PROPERTIES COMPILE_OPTIONS "" LINK_OPTIONS "")
endfunction()
