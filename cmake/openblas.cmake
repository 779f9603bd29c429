# Defines the imported target deltatape::openblas. Also read by the installed package, so it stands alone.
# OpenBLAS' own package sets variables only, and other BLAS libraries have no openblas_set_num_threads().

if(NOT TARGET deltatape::openblas)
  find_package(OpenBLAS CONFIG QUIET)
  if(NOT OpenBLAS_FOUND)
    find_package(PkgConfig QUIET)
    if(PkgConfig_FOUND)
      pkg_check_modules(DELTATAPE_PC_OPENBLAS QUIET openblas)
    endif()
  endif()
  find_path(DELTATAPE_OPENBLAS_INCLUDE_DIR cblas.h
    HINTS ${OpenBLAS_INCLUDE_DIRS} ${DELTATAPE_PC_OPENBLAS_INCLUDE_DIRS} PATH_SUFFIXES openblas)
  find_library(DELTATAPE_OPENBLAS_LIBRARY openblas
    HINTS ${OpenBLAS_LIBRARY_DIRS} ${DELTATAPE_PC_OPENBLAS_LIBRARY_DIRS})
  mark_as_advanced(DELTATAPE_OPENBLAS_INCLUDE_DIR DELTATAPE_OPENBLAS_LIBRARY)
  if(NOT DELTATAPE_OPENBLAS_INCLUDE_DIR OR NOT DELTATAPE_OPENBLAS_LIBRARY)
    message(FATAL_ERROR "OpenBLAS not found (cblas.h and libopenblas). On Debian: apt-get install libopenblas-dev")
  endif()
  add_library(deltatape::openblas UNKNOWN IMPORTED)
  set_target_properties(deltatape::openblas PROPERTIES
    IMPORTED_LOCATION "${DELTATAPE_OPENBLAS_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${DELTATAPE_OPENBLAS_INCLUDE_DIR}")
endif()
