# The CUDA backend: whether it is built, and how. Sets `cuda` and cuda_summary; deltatape_cuda_objects(TARGET) compiles it.
# Below backends/cuda everything but host/ (the host twin, for tests) is part of it; nvcc compiles what ends in .cu.

if(NOT DELTATAPE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DELTATAPE_CUDA is '${DELTATAPE_CUDA}', expected AUTO, ON or OFF.")
endif()

set(cuda OFF)
if(DELTATAPE_CUDA STREQUAL "OFF")
  set(cuda_summary "off (DELTATAPE_CUDA=OFF)")
else()
  find_package(CUDAToolkit QUIET)
  if(CUDAToolkit_FOUND)
    if(NOT CMAKE_CUDA_COMPILER AND CUDAToolkit_NVCC_EXECUTABLE)
      set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    if(NOT CMAKE_CUDA_HOST_COMPILER)
      set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
    endif()
    if(NOT DEFINED CMAKE_CUDA_COMPILER_LAUNCHER AND CMAKE_CXX_COMPILER_LAUNCHER)
      set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_CXX_COMPILER_LAUNCHER})
    endif()
    set(CMAKE_CUDA_ARCHITECTURES OFF)  # -gencode below: CMake's own forms leave out what is particular to 90a
    include(CheckLanguage)
    check_language(CUDA)
  endif()
  if(CUDAToolkit_FOUND AND CMAKE_CUDA_COMPILER AND CUDAToolkit_VERSION VERSION_GREATER_EQUAL 12.8)
    enable_language(CUDA)
    set(cuda ON)
    list(JOIN DELTATAPE_CUDA_ARCHITECTURES " " cuda_architectures)
    set(cuda_summary "${CUDAToolkit_VERSION} for sm ${cuda_architectures}")
  elseif(NOT CUDAToolkit_FOUND)
    set(cuda_summary "no toolkit found")
  elseif(NOT CMAKE_CUDA_COMPILER)
    set(cuda_summary "toolkit ${CUDAToolkit_VERSION} found, but its nvcc does not work with this compiler")
  else()
    set(cuda_summary "toolkit ${CUDAToolkit_VERSION} found, expected 12.8 or later")
  endif()
  if(DELTATAPE_CUDA STREQUAL "ON" AND NOT cuda)
    message(FATAL_ERROR "DELTATAPE_CUDA=ON, but: ${cuda_summary}.")
  endif()
endif()

if(cuda)
  set(cuda_flags -std=c++20 --expt-relaxed-constexpr --extended-lambda --threads=1)
  foreach(architecture IN LISTS DELTATAPE_CUDA_ARCHITECTURES)
    if(NOT architecture MATCHES "^[0-9]+[af]?$")
      message(FATAL_ERROR "DELTATAPE_CUDA_ARCHITECTURES has '${architecture}', expected such as 80, 90a or 100a.")
    endif()
    list(APPEND cuda_flags "SHELL:-gencode arch=compute_${architecture},code=sm_${architecture}")
  endforeach()
  # What nvcc generates for the host is not ours to warn about: -Wpedantic and -Wconversion are for the host twin's build
  # of the same files.
  list(APPEND cuda_flags "SHELL:-Xcompiler -Wall,-Wextra")
  if(DELTATAPE_WERROR)
    list(APPEND cuda_flags "SHELL:-Werror all-warnings")
  endif()
  if(march_flag)
    list(APPEND cuda_flags "SHELL:-Xcompiler ${march_flag}")
  endif()
endif()

# deltatape_cuda_objects(TARGET OUT): compiles the backend and joins it into one object file, OUT. With the objects
# themselves the library would be a CUDA one to CMake, and all who use the installed package would have to enable CUDA.
function(deltatape_cuda_objects target out)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS backends/cuda/*.cu backends/cuda/*.cpp)
  list(FILTER cuda_sources EXCLUDE REGEX "/backends/cuda/host/")
  add_library(${target} OBJECT ${cuda_sources})
  deltatape_compile_options(${target})
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES
    POSITION_INDEPENDENT_CODE ON CUDA_EXTENSIONS OFF CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY Static)
  # fmt's compile-time checks need their constexpr functions on the device's side too.
  target_compile_definitions(${target} PRIVATE
    DELTATAPE_CUDA_ARCHITECTURES="${cuda_architectures}" DELTATAPE_CUDA_LIBRARIES="${CUDAToolkit_LIBRARY_DIR}"
    $<$<COMPILE_LANGUAGE:CUDA>:FMT_USE_CONSTEXPR=1>)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_flags}>")
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_include_directories(${target} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${target} PRIVATE fmt::fmt)
  set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${CMAKE_CXX_COMPILER} -nostdlib -r -o ${object} $<TARGET_OBJECTS:${target}>
    DEPENDS $<TARGET_OBJECTS:${target}> COMMENT "Joining the CUDA backend" COMMAND_EXPAND_LISTS VERBATIM)
  set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(${out} ${object} PARENT_SCOPE)
endfunction()
