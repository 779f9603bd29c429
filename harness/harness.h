// Checking kernels against the tape, in one include.
#pragma once

#include "harness/check.h"
#include "harness/kda/kda.h"
#include "harness/plugin/plugin.h"
#include "harness/report/writers.h"
