# Installs the library, its headers and the package that find_package(deltatape) reads.

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/deltatape)

install(TARGETS deltatape EXPORT deltatape)
if(portable)
  install(TARGETS deltatape_best LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/${hwcaps_folder} NAMELINK_SKIP)
endif()
if(TARGET deltatape_cli)
  install(TARGETS deltatape_cli)
endif()
# Below include/deltatape, which is the include directory users get: quoted includes resolve as they do in this tree.
foreach(folder IN ITEMS core backends autograd ops nn io harness)
  if(IS_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/deltatape FILES_MATCHING PATTERN "*.h")
  endif()
endforeach()
install(FILES deltatape.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/deltatape)

install(EXPORT deltatape NAMESPACE deltatape:: FILE deltatapeTargets.cmake DESTINATION ${package_dir})
configure_package_config_file(cmake/deltatapeConfig.cmake.in deltatapeConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(deltatapeConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/deltatapeConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/deltatapeConfigVersion.cmake
              cmake/openblas.cmake cmake/libzip.cmake
        DESTINATION ${package_dir})
