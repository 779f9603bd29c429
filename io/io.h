// Files in one include.
#pragma once

#include "io/checkpoint.h"
#include "io/npy.h"
#include "io/npz.h"
#include "io/safetensors.h"
#include "io/text.h"
