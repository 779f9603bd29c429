# Lists PROGRAM's test cases and writes OUTPUT, which registers each as a ctest "suite.case".
# doctest's own module starts the program once more per case to learn its suite; the XML listing has it all in one start.
# A case or suite whose name contains [slow] gets the label "slow". One with [gpu] needs a GPU: the label "gpu", and skipped
# where its output says so, unless there is a PREFIX. That stands before all names but those that begin with tile_.

file(READ ${ENVIRONMENT_FILE} environment)
execute_process(COMMAND ${PROGRAM} --list-test-cases --reporters=xml OUTPUT_VARIABLE listing RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} --list-test-cases failed (${result}):\n${listing}")
endif()

# NAME is the attribute's text in OUT, without XML's entities.
function(read_attribute out line name)
  set(text "")
  if(line MATCHES " ${name}=\"([^\"]*)\"")
    set(text "${CMAKE_MATCH_1}")
  endif()
  string(REPLACE "&lt;" "<" text "${text}")
  string(REPLACE "&gt;" ">" text "${text}")
  string(REPLACE "&quot;" "\"" text "${text}")
  string(REPLACE "&amp;" "&" text "${text}")
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

set(script "")
set(rest "${listing}")
# Line by line and never as a CMake list: names may hold semicolons and brackets.
while(rest MATCHES "<TestCase ([^\n]*)\n")
  set(line " ${CMAKE_MATCH_1}")
  string(FIND "${rest}" "<TestCase " start)
  math(EXPR start "${start} + 10")
  string(SUBSTRING "${rest}" ${start} -1 rest)

  read_attribute(case "${line}" name)
  read_attribute(suite "${line}" testsuite)
  set(test "${case}")
  set(labels doctest)
  set(timeout ${TIMEOUT})
  if(NOT suite STREQUAL "")
    set(test "${suite}.${case}")
  endif()
  if(test MATCHES "\\[slow\\]")
    set(labels "doctest;slow")
    math(EXPR timeout "${TIMEOUT} * 6")
  endif()

  set(skip "")
  if(NOT "${PREFIX}" STREQUAL "")
    if(NOT test MATCHES "^(tile_|${PREFIX})")
      set(test "${PREFIX}${test}")
    endif()
  elseif(test MATCHES "\\[gpu\\]")
    list(APPEND labels gpu)
    set(skip " SKIP_REGULAR_EXPRESSION \"skipped: \"")
  endif()

  string(SHA256 key "${test}")
  if(DEFINED seen_${key})
    message(FATAL_ERROR "Two test cases are called '${test}': ctest could not tell them apart.")
  endif()
  set(seen_${key} TRUE)

  # doctest splits filters at commas unless they are escaped.
  string(REPLACE "," "\\," case "${case}")
  string(REPLACE "," "\\," suite "${suite}")
  string(APPEND script "add_test([==[${test}]==] [==[${PROGRAM}]==] --case-sensitive=true --no-intro=true"
         " [==[--test-suite=${suite}]==] [==[--test-case=${case}]==])\n"
         # A filter that matches nothing is a success to doctest.
         "set_tests_properties([==[${test}]==] PROPERTIES LABELS [==[${labels}]==] TIMEOUT ${timeout}"
         " FAIL_REGULAR_EXPRESSION \"test cases: +0 \" ENVIRONMENT [==[${environment}]==]${skip})\n")
endwhile()
if(script STREQUAL "")
  message(FATAL_ERROR "${PROGRAM} lists no test case.")
endif()
file(WRITE ${OUTPUT} "${script}")
