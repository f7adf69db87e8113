# What the vendor libraries do in backend/cuda, against stand-ins for them: needs the toolkit's and
# cuDNN's headers, no library and no GPU.
find_package(CUDAToolkit QUIET)
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
if(NOT CUDAToolkit_FOUND OR NOT CUDNN_INCLUDE_DIR)
  message(STATUS "cuda/vendor: not tested, as the headers of CUDA or cuDNN are missing")
  return()
endif()
set(vendor ${CMAKE_SOURCE_DIR}/src/backend/cuda)
add_executable(test_cuda_vendor test_vendor.c vendor_backend.c fake_cudnn.c fake_blas.c
               ${vendor}/choose.c ${vendor}/dnn.c ${vendor}/conv.c ${vendor}/attention.c
               ${vendor}/linear.c ${vendor}/tune.c)
target_include_directories(test_cuda_vendor PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}
                           ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/tests/ops)
target_include_directories(test_cuda_vendor SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_INCLUDE_DIR})
target_link_libraries(test_cuda_vendor PRIVATE helpers_ops ${rooms} meddiff_flags PkgConfig::CMOCKA)
add_test(NAME cuda/vendor COMMAND test_cuda_vendor WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(cuda/vendor PROPERTIES TIMEOUT 300 ENVIRONMENT "OMP_WAIT_POLICY=passive")
