// Every module, optimizer and schedule in one include.
#pragma once

#include "nn/generate.h"
#include "nn/kda_attention.h"
#include "nn/kda_config.h"
#include "nn/kda_model.h"
#include "nn/linear.h"
#include "nn/module.h"
#include "nn/norm.h"
#include "nn/optimizer.h"
#include "nn/schedule.h"
#include "nn/short_convolution.h"
