#include "tests/support/declarations.h"

#include <cctype>
#include <regex>

namespace deltatape::test {
namespace {

std::string without_comments_and_directives(std::string_view header) {
  static const std::regex comment(R"(//[^\n]*|/\*[\s\S]*?\*/|(^|\n)[ \t]*#[^\n]*)");
  return std::regex_replace(std::string(header), comment, "\n");
}

// The name that ends where a parameter list begins: `mul`, `operator+`; empty when there is none.
std::string name_before(std::string_view text) {
  static const std::regex name(R"((operator\s*[^\s\w(]+|[A-Za-z_]\w*)\s*$)");
  std::match_results<std::string_view::const_iterator> match;
  return std::regex_search(text.begin(), text.end(), match, name) ? match[1].str() : "";
}

// Whether `statement`, up to an opening brace, opens this namespace.
bool opens(std::string_view statement, std::string_view space) {
  static const std::regex opening(R"(namespace\s+([\w:]+)\s*$)");
  std::match_results<std::string_view::const_iterator> match;
  return std::regex_search(statement.begin(), statement.end(), match, opening) && match[1].str() == space;
}

}  // namespace

std::set<std::string> declared_functions(std::string_view header, std::string_view space) {
  const std::string text = without_comments_and_directives(header);
  std::set<std::string> names;
  int braces = 0;
  int parentheses = 0;
  int inside = 0;        // the depth of braces directly in the namespace; 0: not in it
  size_t statement = 0;  // where the current one starts
  for (size_t i = 0; i < text.size(); ++i) {
    const std::string_view so_far = std::string_view(text).substr(statement, i - statement);
    switch (text[i]) {
      case '(':
        if (parentheses == 0 && inside != 0 && braces == inside && !name_before(so_far).empty()) {
          names.insert(name_before(so_far));
        }
        ++parentheses;
        break;
      case ')':
        --parentheses;
        break;
      case '{':
        // Braces among parameters are default arguments.
        if (parentheses == 0) {
          ++braces;
          inside = inside == 0 && opens(so_far, space) ? braces : inside;
          statement = i + 1;
        }
        break;
      case '}':
        if (parentheses == 0) {
          inside = braces == inside ? 0 : inside;
          --braces;
          statement = i + 1;
        }
        break;
      case ';':
        statement = i + 1;
        break;
      default:
        break;
    }
  }
  return names;
}

std::set<std::string> included_files(std::string_view header, std::string_view folder) {
  const std::regex include("#include\\s+\"(" + std::string(folder) + "/[^\"]+)\"");
  const std::string text(header);
  std::set<std::string> files;
  for (std::sregex_iterator match(text.begin(), text.end(), include); match != std::sregex_iterator(); ++match) {
    files.insert((*match)[1].str());
  }
  return files;
}

}  // namespace deltatape::test
