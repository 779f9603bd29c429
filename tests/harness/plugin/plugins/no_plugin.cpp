// A shared library that is none.
extern "C" int answer() { return 42; }
