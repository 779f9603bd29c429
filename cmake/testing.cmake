# Shared by tests, examples and benchmarks: the environment every test runs in, and doctest's registration.

# DELTATAPE_CHECK_MEMORY: fresh memory is filled with NaN and stands between guard zones.
# Passive waiting: tests run side by side, and threads that spin at barriers would take the cores from each other.
set(DELTATAPE_TEST_ENVIRONMENT
  DELTATAPE_CHECK_MEMORY=1
  DELTATAPE_SOURCE_DIR=${PROJECT_SOURCE_DIR}
  OMP_NUM_THREADS=2
  OMP_WAIT_POLICY=passive)
if(TARGET deltatape_cli)
  list(APPEND DELTATAPE_TEST_ENVIRONMENT DELTATAPE_PROGRAM=$<TARGET_FILE:deltatape_cli>)
endif()
if(DELTATAPE_SANITIZE MATCHES "address")
  list(APPEND DELTATAPE_TEST_ENVIRONMENT ASAN_OPTIONS=detect_stack_use_after_return=1
       UBSAN_OPTIONS=print_stacktrace=1)
elseif(DELTATAPE_SANITIZE MATCHES "thread")
  # The OpenMP run time and OpenBLAS are not instrumented: only our own accesses are judged.
  list(APPEND DELTATAPE_TEST_ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1 halt_on_error=1")
endif()
set(DELTATAPE_TEST_TIMEOUT 600)  # seconds; only meant to end what hangs

# deltatape_test(NAME LABELS COMMAND...)
function(deltatape_test name labels)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES
    ENVIRONMENT "${DELTATAPE_TEST_ENVIRONMENT}" LABELS "${labels}" TIMEOUT ${DELTATAPE_TEST_TIMEOUT})
endfunction()

# deltatape_discover_doctest(TARGET [PREFIX]): one ctest per test case, listed by the program itself after each link.
function(deltatape_discover_doctest target)
  set(test_file ${CMAKE_CURRENT_BINARY_DIR}/${target}_cases.cmake)
  set(environment_file ${CMAKE_CURRENT_BINARY_DIR}/${target}_environment.txt)
  # A file, since semicolons of a list do not survive a command line.
  file(GENERATE OUTPUT ${environment_file} CONTENT "${DELTATAPE_TEST_ENVIRONMENT}")
  set(script ${PROJECT_SOURCE_DIR}/cmake/discover_doctest.cmake)
  add_custom_command(TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -D PROGRAM=$<TARGET_FILE:${target}> -D OUTPUT=${test_file}
            -D ENVIRONMENT_FILE=${environment_file} -D PREFIX=${ARGN} -D TIMEOUT=${DELTATAPE_TEST_TIMEOUT} -P ${script}
    BYPRODUCTS ${test_file} VERBATIM)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
  # Before the first build there is nothing to list; ctest then reports the missing program instead of passing emptily.
  set(include_file ${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake)
  file(WRITE ${include_file} "if(EXISTS \"${test_file}\")\n  include(\"${test_file}\")\n"
       "else()\n  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${include_file})
endfunction()
