#include "harness/plugin/protocol.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace deltatape::harness::plugin {

std::string printable(const char* text, size_t size, size_t most) {
  std::string clean(text, std::min(static_cast<size_t>(std::find(text, text + size, '\0') - text), most));
  for (char& c : clean) {
    const bool blank = c == '\n' || c == '\r' || c == '\t';
    c = blank ? ' ' : c < ' ' || c > '~' ? '?' : c;
  }
  clean.erase(clean.find_last_not_of(' ') + 1);
  return clean;
}

bool send_message(int descriptor, const void* message, size_t size) {
  ssize_t sent = 0;
  do {
    sent = ::send(descriptor, message, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(size);
}

Received receive_message(int descriptor, void* message, size_t size, bool wait) {
  ssize_t received = 0;
  do {
    received = ::recv(descriptor, message, size, MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT));
  } while (received < 0 && errno == EINTR);
  if (received < 0) {
    return errno == EAGAIN || errno == EWOULDBLOCK ? Received::nothing : Received::closed;
  }
  return received == static_cast<ssize_t>(size) ? Received::message : Received::closed;
}

}  // namespace deltatape::harness::plugin
