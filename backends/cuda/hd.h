// DT_HD: a function that runs on the GPU and on the host. The only macro of the CUDA backend.
#pragma once

#ifdef __CUDACC__
#define DT_HD __host__ __device__
#else
#define DT_HD
#endif
