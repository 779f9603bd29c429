#include <fmt/format.h>

#include <algorithm>

#include "harness/report/html/plots.h"
#include "harness/report/html/svg.h"
#include "harness/report/rows.h"

namespace deltatape::harness::html {

std::string ruler(const Judgement& judgement, double width) {
  if (!judgement.problem.empty() || !(judgement.fine_limit > 0.0) || !(judgement.wrong_limit > 0.0)) {
    return "";
  }
  const double error = judgement.measure.error;
  const LogScale scale({error, judgement.composed, judgement.fine_limit, judgement.wrong_limit,
                        judgement.wrong_limit * 10.0, judgement.fine_limit / 10.0},
                       20);
  const auto x_of = [&](double value) { return 5.0 + (width - 10.0) * scale.place(value); };
  Drawing drawing(width, 18.0,
                  fmt::format("error {}, fine below {}, wrong above {}, composed path {}", short_number(error),
                              short_number(judgement.fine_limit), short_number(judgement.wrong_limit),
                              short_number(judgement.composed)));
  const double fine = x_of(judgement.fine_limit);
  const double wrong = std::max(fine, x_of(judgement.wrong_limit));
  drawing.rect(5.0, 6.0, fine - 5.0, 6.0, "zone-fine");
  drawing.rect(fine, 6.0, wrong - fine, 6.0, "zone-less");
  drawing.rect(wrong, 6.0, width - 5.0 - wrong, 6.0, "zone-wrong");
  if (judgement.composed > 0.0) {
    const double x = x_of(judgement.composed);
    drawing.line(x, 3.0, x, 15.0, "composed");
  }
  drawing.add(fmt::format(R"(<circle class="here" cx="{}" cy="9" r="4"/>)", coordinate(x_of(error))));
  return drawing.finish("ruler");
}

}  // namespace deltatape::harness::html
