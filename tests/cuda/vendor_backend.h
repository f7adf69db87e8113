/* A backend whose convolutions, linear layers and attention are backend/cuda's on the libraries of
   fake_vendor.h, and whose other ops are backend/cpu's. */
#ifndef MD_TESTS_CUDA_VENDOR_BACKEND_H
#define MD_TESTS_CUDA_VENDOR_BACKEND_H

#include "backend/cuda/vendor.h"

MD_MUST md_status vendor_backend_open(const cuda_options *o, md_backend **out);
/* How often our own attention was asked for. */
extern int vendor_own_attention;

#endif
