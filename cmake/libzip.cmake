# Defines the imported target deltatape::libzip. Also read by the installed package, so it stands alone.
# libzip's own package names programs that Debian ships in other packages, and fails without them.

if(NOT TARGET deltatape::libzip)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(DELTATAPE_PC_LIBZIP QUIET libzip)
  endif()
  find_path(DELTATAPE_LIBZIP_INCLUDE_DIR zip.h HINTS ${DELTATAPE_PC_LIBZIP_INCLUDE_DIRS})
  find_library(DELTATAPE_LIBZIP_LIBRARY zip HINTS ${DELTATAPE_PC_LIBZIP_LIBRARY_DIRS})
  mark_as_advanced(DELTATAPE_LIBZIP_INCLUDE_DIR DELTATAPE_LIBZIP_LIBRARY)
  if(NOT DELTATAPE_LIBZIP_INCLUDE_DIR OR NOT DELTATAPE_LIBZIP_LIBRARY)
    message(FATAL_ERROR "libzip not found (zip.h and libzip). On Debian: apt-get install libzip-dev")
  endif()
  add_library(deltatape::libzip UNKNOWN IMPORTED)
  set_target_properties(deltatape::libzip PROPERTIES
    IMPORTED_LOCATION "${DELTATAPE_LIBZIP_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${DELTATAPE_LIBZIP_INCLUDE_DIR}")
endif()
