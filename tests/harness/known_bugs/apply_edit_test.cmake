# apply_edit.cmake on small files: what it makes, and what it refuses.
cmake_minimum_required(VERSION 3.22)

file(REMOVE_RECURSE ${WORK_DIR})
set(source [==[
a;b;
  int x[] = {1, 2};  // \n "one"
same
same
last
]==])
file(WRITE ${WORK_DIR}/kernels/x.h "${source}")
file(WRITE ${WORK_DIR}/kernels/y.h "left alone\nchanged\n")

# apply(EDIT RESULT MESSAGE)
function(apply edit result message)
  file(WRITE ${WORK_DIR}/test.edit "about: a test\nform: chunk\n${edit}")
  file(REMOVE_RECURSE ${WORK_DIR}/out)
  if(result STREQUAL "accepted")
    file(WRITE ${WORK_DIR}/out/stale.h "of an earlier version of the edit\n")
  endif()
  execute_process(
    COMMAND ${CMAKE_COMMAND} -D EDIT=${WORK_DIR}/test.edit -D KERNELS=${WORK_DIR}/kernels -D OUT=${WORK_DIR}/out -P ${APPLY}
    RESULT_VARIABLE code ERROR_VARIABLE error)
  string(REGEX REPLACE "[ \n]+" " " error "${error}")  # CMake breaks lines
  if(NOT result STREQUAL "refused" AND NOT code EQUAL 0)
    message(FATAL_ERROR "apply_edit failed:\n${edit}\n${error}")
  elseif(result STREQUAL "refused" AND (code EQUAL 0 OR EXISTS ${WORK_DIR}/out))
    message(FATAL_ERROR "apply_edit accepted what it should refuse:\n${edit}")
  endif()
  if(EXISTS ${WORK_DIR}/out/stale.h)
    message(FATAL_ERROR "apply_edit left what stood in its folder")
  endif()
  string(FIND "${error}" "${message}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "apply_edit said '${error}', expected '${message}'")
  endif()
endfunction()

# expect(FILE TEXT)
function(expect file text)
  file(READ ${WORK_DIR}/out/${file} found)
  if(NOT found STREQUAL text)
    message(FATAL_ERROR "${file} became:\n${found}\nexpected:\n${text}")
  endif()
endfunction()

# Semicolons, brackets, quotes and backslashes on both sides.
apply([==[
--- before x.h
  int x[] = {1, 2};  // \n "one"
--- after
  int x[] = {1; 3};  // \t ]] "two"
  more;
]==] accepted "")
expect(x.h [==[
a;b;
  int x[] = {1; 3};  // \t ]] "two"
  more;
same
same
last
]==])
# Two files, two hunks of one file, the second of which stands before the first; the first and the last line.
apply("--- before y.h\nchanged\n--- after\n--- before x.h\nlast\n--- after\nnew\n--- before x.h\nsame\nsame\n--- after\none\n"
  accepted "")
expect(y.h "left alone\n")
expect(x.h [==[
a;b;
  int x[] = {1, 2};  // \n "one"
one
new
]==])

apply("--- before x.h\nsame\n--- after\nz\n" refused "x.h has more than once the lines same")
apply("--- before x.h\nsam\n--- after\nz\n" refused "x.h has nowhere the lines sam")
apply("--- before x.h\nint x[] = {1, 2};\n--- after\nz\n" refused "x.h has nowhere the lines")
apply("--- before z.h\nsame\n--- after\nz\n" refused "there is no z.h")
apply("--- before x.h\nlast\n" refused "has no line '--- after' behind it")
apply("--- before x.h\nlast\n--- before x.h\nsame\n--- after\nz\n" refused "has no line '--- after' behind it")
apply("nothing\n" refused "no line '--- before FILE'")
