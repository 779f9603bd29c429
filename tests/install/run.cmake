# Installs BUILD_DIR into WORK_DIR/prefix, then configures, builds and runs the project beside this file against it.

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "failed (${result}): ${command}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK_DIR})
set(flags "")
if(SANITIZE)
  set(flags "-fsanitize=${SANITIZE}")  # a sanitized library needs a sanitized program
endif()
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${WORK_DIR}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE_DIR} -B ${WORK_DIR}/build -G ${GENERATOR}
    -D CMAKE_CXX_COMPILER=${CXX_COMPILER} -D CMAKE_CXX_FLAGS=${flags} -D CMAKE_BUILD_TYPE=${BUILD_TYPE}
    "-DCMAKE_PREFIX_PATH=${WORK_DIR}/prefix;${PREFIX_PATH}")
run(${CMAKE_COMMAND} --build ${WORK_DIR}/build)
run(${WORK_DIR}/build/consumer)
if(PORTABLE)  # the script that tells which of two libraries a program has
  set(programs ${WORK_DIR}/build/consumer)
  if(EXISTS ${WORK_DIR}/prefix/bin/deltatape)
    list(APPEND programs ${WORK_DIR}/prefix/bin/deltatape)
  endif()
  execute_process(COMMAND bash ${PORTABLE} ${programs} RESULT_VARIABLE result)
  if(NOT result MATCHES "^(0|77)$")  # 77: as far as this processor can tell
    message(FATAL_ERROR "an installed program has the wrong library")
  endif()
endif()
