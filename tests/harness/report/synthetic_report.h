// Reports as a check could have made them, without running one.
#pragma once

#include "harness/report/report.h"

namespace deltatape::test {

/// A candidate whose dg is off at the first row of later chunks where the gate is `standard` and T > 64; `failing` says
/// whether it is. Cases have the settings of KDA.
harness::Report synthetic_report(int64_t cases, bool failing, uint64_t seed = 1);

/// One comparison with these numbers.
harness::Judgement judgement(std::string tensor, harness::Verdict verdict, double error);

}  // namespace deltatape::test
