// The whole library in one include.
#pragma once

#include "autograd/backward.h"
#include "autograd/checkpoint.h"
#include "autograd/function.h"
#include "autograd/grad_mode.h"
#include "autograd/gradcheck.h"
#include "autograd/graph_export.h"
#include "autograd/record.h"
#include "core/generator.h"
#include "core/instruction_set.h"
#include "core/tensor.h"
#include "core/version.h"
#include "harness/harness.h"
#include "io/io.h"
#include "nn/nn.h"
#include "ops/ops.h"
