# The libraries of a portable build (cmake/portable.cmake).

deltatape_library(deltatape SHARED ${all_sources})
deltatape_compile_options(deltatape)
deltatape_library(deltatape_best SHARED ${all_sources})
deltatape_compile_options(deltatape_best ${portable_best})

# Two minor versions of 0.x do not promise to fit together.
foreach(target IN ITEMS deltatape deltatape_best)
  deltatape_bind_inside(${target})
  set_target_properties(${target} PROPERTIES
    OUTPUT_NAME deltatape VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endforeach()
set_target_properties(deltatape PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
set_target_properties(deltatape_best PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/${hwcaps_folder})
add_dependencies(deltatape deltatape_best)  # so that whoever builds a program has both

# Programs that include internal headers (of backends/cpu) agree with the kernels about the width of registers, so they
# cannot go with whichever library the loader takes.
deltatape_library(deltatape_internals STATIC $<TARGET_OBJECTS:deltatape>)
add_library(deltatape::internals ALIAS deltatape_internals)
